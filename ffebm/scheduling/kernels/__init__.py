"""Loops over many tasks or buffers, compiled by numba: what their plain forms find, sooner."""
