"""Being seen: logs, metrics, traces."""
