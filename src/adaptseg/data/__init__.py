"""From disk to batches: label spaces, layouts, domains, and the loader."""
