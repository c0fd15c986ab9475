"""What a plan says against itself, its machine and its source; nothing of it has run yet."""
