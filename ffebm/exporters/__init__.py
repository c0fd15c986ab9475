"""One file a format of another tool."""
