"""Energy blocks: how they settle, and the gradients that follow."""
