"""What memory cells are: how they are written and read, and how they learn in place."""
