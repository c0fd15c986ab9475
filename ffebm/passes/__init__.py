"""One file a pass: each rewrites the graph in place and moves it to a later stage."""
