"""How a model version comes to be: fetch, check, train, evaluate, export, verify, publish."""
