"""The door: one Envoy before several servers, for whoever comes from outside."""
