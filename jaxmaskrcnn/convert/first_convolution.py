"""The first convolution for pictures with more or fewer channels than weights were made for."""

import numpy as np


def for_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Make a first convolution's kernel for images with another number of channels.

    For one channel it is the sum over the input channels, which gives for a grey image what the old kernel
    gives for the same image in each of its channels. For more, the old channels follow each other in turn,
    scaled by their number over the new one, which keeps the size of the result. (timm's rule:
    ``adapt_input_conv`` in timm/models/_manipulate.py.)

    Args:
        kernel: [h, w, in, out].
        channels: The new number of input channels.

    Returns:
        [h, w, channels, out].

    Example:
        >>> for_channels(np.ones((1, 1, 3, 1)), 1).ravel().tolist()
        [3.0]
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    old = kernel.shape[2]
    return kernel[:, :, np.arange(channels) % old] * (old / channels)
