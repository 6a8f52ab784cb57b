"""The pages that a person reads: the report of a version, and the lab."""
