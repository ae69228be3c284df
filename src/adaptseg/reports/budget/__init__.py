"""How many labels: what labelled target images bring, with the source and without it, as a curve over their number."""
