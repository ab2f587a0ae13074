"""Detectron2's array names and yaml config files."""
