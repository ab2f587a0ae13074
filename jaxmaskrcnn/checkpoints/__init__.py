"""Models on disk: directories that hold one model, and the checkpoints of a run."""
