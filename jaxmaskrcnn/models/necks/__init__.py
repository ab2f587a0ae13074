"""Necks: from a backbone's feature maps to the levels for proposals and regions."""
