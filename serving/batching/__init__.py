"""Joins concurrent calls into batches."""
