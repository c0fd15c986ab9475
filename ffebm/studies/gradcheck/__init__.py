"""How near estimated gradients are to the exact adjoint of the same plan on exact tiles."""
