"""A server, as the pipeline needs one: started and ended, asked and answered."""
