"""Training on several devices: a process for each, and how they meet."""
