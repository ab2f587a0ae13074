"""MMDetection: its names, and its Python config files."""
