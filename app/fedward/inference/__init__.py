"""A volume and a model in, findings out."""
