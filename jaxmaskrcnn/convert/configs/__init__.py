"""Configuration files of Detectron2 (yaml) and MMDetection (Python, parsed and never run)."""
