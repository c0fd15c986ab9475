"""Buffers of a plan: who reads and writes them, how long they live, and what a plan says of them."""
