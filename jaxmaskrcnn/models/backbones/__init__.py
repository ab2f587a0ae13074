"""Backbones: from images to feature maps."""
