"""Lower bounds of schedules."""
