"""Rows: which of an input some rows of an output need."""
