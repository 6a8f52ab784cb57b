"""Data sets on disk: which files, which images, which split."""
