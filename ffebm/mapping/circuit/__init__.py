"""A block as the circuit that settles by itself: what it is wired of, how it moves, how long it needs."""
