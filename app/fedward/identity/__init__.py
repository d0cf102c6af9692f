"""Whom to trust: canonical signed documents, the roster, certificate checks."""
