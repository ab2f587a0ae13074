"""Models on disk: model directories and the checkpoints of a run."""
