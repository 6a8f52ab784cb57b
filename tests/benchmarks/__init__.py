"""Measured as it runs: what `pipeline` tells OpenMP must be said before torch is imported."""

import pipeline as pipeline
