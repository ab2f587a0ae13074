"""Small helpers that are not about detection: files, imports, compiled programs, names of losses."""
