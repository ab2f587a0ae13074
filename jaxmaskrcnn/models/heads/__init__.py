"""Heads: modules that predict something for each region."""
