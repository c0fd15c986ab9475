"""Published experiments, ready to compile and train."""
