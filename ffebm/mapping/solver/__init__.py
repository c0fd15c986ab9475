"""The best choice of one option each under limits."""
