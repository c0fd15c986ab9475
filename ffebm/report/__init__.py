"""What a plan and its runs say, for people: plain data first, then a page or text."""
