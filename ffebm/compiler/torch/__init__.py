"""PyTorch in: a module or an exported program becomes a graph."""
