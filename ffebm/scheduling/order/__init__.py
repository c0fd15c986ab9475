"""Orders of tasks: each placed for itself, and a search for a shorter schedule by that."""
