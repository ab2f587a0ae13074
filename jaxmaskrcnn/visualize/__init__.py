"""Pictures of annotations and detections."""
