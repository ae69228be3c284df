"""How good predictions are: confusion matrix, IoU, and what can be told without labels."""
