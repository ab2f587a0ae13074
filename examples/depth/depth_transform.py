"""A transform of your own for training images, ``data.transform``.

Shapes: G objects of an image, H, W its pixels.
"""

import numpy as np

from jaxmaskrcnn.data.augment.own import Sample


def hide_one(sample: Sample, rng: np.random.Generator) -> Sample:
    """Paints over one object of several, in half of the images, and leaves it out of the objects.

    Args:
        sample: The image [H, W, 3] and its G objects.
        rng: Gives all draws, so that a continued run has the same ones.

    Returns:
        The image without the object. The others keep their depths, as ``origin`` says which they were.
    """
    count = len(sample.labels)
    if count < 2 or sample.masks is None or rng.random() < 0.5:
        return sample
    hidden = rng.integers(count)
    image = sample.image.copy()
    image[sample.masks[hidden]] = sample.image.mean(axis=(0, 1))  # the picture's mean colour
    return sample._replace(image=image).take(np.arange(count) != hidden)
