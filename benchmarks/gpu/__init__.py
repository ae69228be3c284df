"""One prepared run that measures adaptseg on a GPU in a few minutes, offline: `python -m benchmarks.gpu`."""
