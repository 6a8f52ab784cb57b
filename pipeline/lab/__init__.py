"""The course notebook, reproduced task by task: what its page shows, as plain functions and values."""
