"""Memory cells, their pulses and their wires."""
