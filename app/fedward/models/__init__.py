"""Networks by name, and their weights as one flat array."""
