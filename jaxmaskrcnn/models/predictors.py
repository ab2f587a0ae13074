"""The last layer of a head's classes or masks: a plain one, or one of cosines.

Shapes: C channels.
"""

from typing import Any

from flax import nnx

from jaxmaskrcnn.config.heads import BoxConfig, MaskConfig
from jaxmaskrcnn.models.cosine import CosineConv, CosineLinear
from jaxmaskrcnn.models.layers import Conv, linear


def linear_predictor(
    config: BoxConfig, features_in: int, features_out: int, *, init: Any, dtype: str, rngs: nnx.Rngs
) -> nnx.Linear:
    """Make the fully connected layer of the logits of classes.

    Args:
        config: Says of what kind it is (``cosine_scale``).
        features_in: Channels of the input, C.
        features_out: Number of logits.
        init: Initialiser of the kernel.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Example:
        >>> options = dict(init=nnx.initializers.ones, dtype="float32", rngs=nnx.Rngs(0))
        >>> type(linear_predictor(BoxConfig(cosine_scale=20.0), 8, 4, **options)).__name__
        'CosineLinear'
    """
    options: dict[str, Any] = dict(init=init, dtype=dtype, rngs=rngs)
    if config.cosine_scale:
        return CosineLinear(features_in, features_out, scale=config.cosine_scale, **options)
    return linear(features_in, features_out, **options)


def mask_predictor(
    config: MaskConfig, features_in: int, features_out: int, *, init: Any, dtype: str, rngs: nnx.Rngs
) -> Conv:
    """Make the 1x1 convolution of the logits of masks.

    Args:
        config: Says of what kind it is (``cosine_scale``).
        features_in: Channels of the input, C.
        features_out: Number of maps.
        init: Initialiser of a plain kernel.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Example:
        >>> options = dict(init=nnx.initializers.ones, dtype="float32", rngs=nnx.Rngs(0))
        >>> type(mask_predictor(MaskConfig(), 8, 4, **options)).__name__
        'Conv'
    """
    options: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
    if config.cosine_scale:
        return CosineConv(features_in, features_out, scale=config.cosine_scale, **options)
    return Conv(features_in, features_out, 1, init=init, **options)
