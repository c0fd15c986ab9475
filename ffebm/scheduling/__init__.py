"""When every unit does what: tasks, and a time for each."""
