"""The plan: what a compiled model is, in memory and on disk."""
