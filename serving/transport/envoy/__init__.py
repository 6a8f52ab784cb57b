"""Calls that arrive through Envoy, which has this Python inside it (pyvoy): how it is configured, started and ended."""
