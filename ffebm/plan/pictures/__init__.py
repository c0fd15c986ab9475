"""A plan as people see it at a glance."""
