"""Augmentation: parameters are drawn for each image of a step, then applied to image, masks and boxes."""
