"""Which photographs to label next, with predictions to correct."""
