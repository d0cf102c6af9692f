"""Evaluations as pages: one HTML file with its plots in it, and the numbers behind it as JSON."""
