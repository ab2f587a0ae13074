"""Reads pickles without running anything in them."""
