"""Runs a plan on simulated tiles: inference, and training by hybrid gradients."""
