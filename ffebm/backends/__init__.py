"""One file a backend: each lowers the partitioned graph to a part of the plan."""
