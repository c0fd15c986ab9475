"""Trains a plan: settings, trainer, checkpoints, record, data."""
