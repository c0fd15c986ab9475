"""The search for a mapping: the solver's choices, packed onto tiles, scheduled, and changed."""
