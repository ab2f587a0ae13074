"""Small helpers that know nothing of detection: files, imports, compiled programs."""
