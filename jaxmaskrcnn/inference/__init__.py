"""Detection in images and videos, and the formats of its results."""
