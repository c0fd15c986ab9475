"""How the equilibrium answers to a nudge, and the gradients from it."""
