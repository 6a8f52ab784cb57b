"""Serves any verified version: named tensors in, named tensors out. Knows nothing of what they mean."""
