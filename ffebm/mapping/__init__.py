"""What a block could be on a machine, and what that costs."""
