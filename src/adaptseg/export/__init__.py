"""What one ships: a segmenter as a file for other programs."""
