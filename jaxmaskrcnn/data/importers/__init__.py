"""Annotations of other tools as COCO json; each format is a module with ``read``."""
