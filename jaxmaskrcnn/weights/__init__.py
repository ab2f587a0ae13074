"""Weights by name or address: where they are published, how they are fetched, and where they are kept."""
