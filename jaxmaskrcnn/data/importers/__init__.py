"""Converts annotations of other tools to COCO json; each format is a module with a function ``read``."""
