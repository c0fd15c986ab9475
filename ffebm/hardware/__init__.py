"""Machines: what they are made of, as plain data with units and sources."""
