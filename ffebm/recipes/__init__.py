"""The experiments of Nest & Ernoult 2024, ready to compile and train."""
