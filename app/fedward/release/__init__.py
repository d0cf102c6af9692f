"""From a trained model to one that a hospital may run: passport, signature, the site's model store."""
