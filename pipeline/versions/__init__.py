"""What stands in a model repository, and what changes it."""
