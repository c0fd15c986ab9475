"""Exploration: one model for many machines and options, and which of the plans are worth a look."""
