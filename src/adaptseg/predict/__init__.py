"""Files in, masks out."""
