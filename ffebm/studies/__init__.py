"""What is measured on many runs of a plan."""
