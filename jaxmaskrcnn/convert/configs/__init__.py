"""Config files of Detectron2 (yaml) and MMDetection (Python, parsed but never run)."""
