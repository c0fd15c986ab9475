"""How a step of training is taken: optimiser, learning rate, averages, precision."""
