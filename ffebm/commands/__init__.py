"""One file a command of `ffebm`; heavy modules are imported when a command runs."""
