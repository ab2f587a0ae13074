"""Pictures in, detections out: for callers, for files, and drawn."""
