"""The identity of objects over the frames of a video."""
