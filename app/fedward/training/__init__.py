"""One local round: weights, data and settings in, update and metrics out."""
