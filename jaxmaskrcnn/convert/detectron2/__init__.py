"""Detectron2: its names, and its yaml config files."""
