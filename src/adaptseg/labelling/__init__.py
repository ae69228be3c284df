"""Which photographs to label next, and the way to annotation programs and back."""
