"""Heads: what is predicted for a region."""
