"""Necks: from feature maps to the levels that proposals and regions are made from."""
