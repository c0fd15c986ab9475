"""One phase of a block, and when it ends."""
