"""Where values lie while a schedule runs: offsets in memories, and what does not fit."""
