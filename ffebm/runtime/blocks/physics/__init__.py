"""What a layer's energy is made of."""
