"""MMDetection's array names and Python config files."""
