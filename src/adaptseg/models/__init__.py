"""Raw networks: tensors in, logits out. Nothing here knows of files, classes or training."""
