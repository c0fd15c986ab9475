"""The graph of a model, its ops, and how much work they are."""
