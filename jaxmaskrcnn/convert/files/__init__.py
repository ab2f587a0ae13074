"""Checkpoint files: reading them without running anything of theirs, and writing them."""
