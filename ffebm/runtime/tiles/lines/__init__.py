"""What stands at the ends of lines: converters, and what they read."""
