"""Energy blocks as netlists that ngspice runs."""
