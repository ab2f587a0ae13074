"""matterport's array names, and its configuration classes."""
