"""What privacy costs: mechanisms as data, and their accounting. The unit is one patient with all studies."""
