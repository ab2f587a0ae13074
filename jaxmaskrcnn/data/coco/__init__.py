"""Annotations in COCO's format: reading, checking, masks and polygons."""
