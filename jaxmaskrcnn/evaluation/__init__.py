"""COCO metrics of a detector on a data set, or of detections in a file."""
