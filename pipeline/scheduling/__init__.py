"""When a run begins, that it is alone, and who hears of it."""
