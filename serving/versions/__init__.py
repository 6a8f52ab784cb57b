"""Follows a model repository: which versions are loaded, and which one answers."""
