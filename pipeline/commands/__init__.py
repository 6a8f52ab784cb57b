"""The commands of `python -m pipeline`, a file for each family."""
