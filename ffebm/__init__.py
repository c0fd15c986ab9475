"""Compile a model graph for analog crossbar tiles and digital units, and run and train the plan."""
