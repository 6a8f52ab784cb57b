"""What a candidate must pass before it is published."""
