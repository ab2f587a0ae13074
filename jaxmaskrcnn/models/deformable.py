"""Deformable convolution as a layer: it computes its own offsets from its input.

Shapes: N maps, h and w, C channels, T taps of the kernel, G groups of offsets.
"""

from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.config.backbones import DeformableStages
from jaxmaskrcnn.models.layers import Conv
from jaxmaskrcnn.ops.convolution import finish
from jaxmaskrcnn.ops.deform_conv import deform_conv2d

Array = jax.Array


class DeformableConv(Conv):
    """A convolution at places that another convolution of the same input moves.

    That one begins with zeros. Its channels are those of Detectron2's and MMDetection's files: for each group
    and tap dy and dx, then for version 2 a logit for each group and tap, whose sigmoid is the tap's factor.

    As for any convolution, the input has to be zero outside of each image's extent (see `padding.py`); places
    outside then have the value 0, as they have outside of the map.

    Source: Dai et al., 2017; Zhu et al., 2019 for version 2; Detectron2's ``DeformBottleneckBlock``, mmcv's
    ``DeformConv2dPack`` and ``ModulatedDeformConv2dPack``.

    Args:
        features_in: Channels of the input.
        features_out: Channels of the result.
        size: Side of the kernel.
        offset_groups: Number G of groups of input channels that have offsets of their own.
        masks: Whether each tap has a factor (version 2).
        options: As of `Conv`.

    Attributes:
        kernel, bias: As of `Conv`.
        offset: The Conv that computes the offsets, with a bias.

    Example:
        >>> layer = DeformableConv(8, 4, 3, 1, True, stride=2, rngs=nnx.Rngs(0))
        >>> layer.offset.kernel.shape, layer(jnp.zeros((1, 5, 7, 8))).shape
        ((3, 3, 8, 27), (1, 3, 4, 4))
    """

    def __init__(self, features_in: int, features_out: int, size: int, offset_groups: int = 1,
                 masks: bool = False, *, stride=1, dilation=1, dtype="float32", rngs,
                 **options: Any):  # fmt: skip
        c: dict[str, Any] = dict(stride=stride, dilation=dilation, dtype=dtype, rngs=rngs)
        super().__init__(features_in, features_out, size, **c, **options)
        channels = (3 if masks else 2) * size * size * offset_groups
        self.offset = Conv(features_in, channels, size, init=nnx.initializers.zeros, **c)
        self.masks = masks

    def convolve(
        self, x: Array, kernel: Array, bias: Array | None, shortcut: Array | None, relu: bool
    ) -> Array:
        """Compute the layer with a kernel and a bias that contain the norm; see `Conv`."""
        offsets, mask = self.offset(x), None
        if self.masks:
            count = offsets.shape[-1] // 3 * 2
            offsets, mask = offsets[..., :count], jax.nn.sigmoid(offsets[..., count:])
        padding = kernel.shape[0] // 2 * self.dilation
        y = deform_conv2d(
            x, kernel, offsets, mask, stride=self.stride, padding=padding, dilation=self.dilation,
            groups=self.groups,
        )  # fmt: skip
        return finish(y, bias, shortcut, relu)


def spread_conv(channels: int, number: int, config: DeformableStages, **options: Any) -> Conv:
    """Return the 3x3 convolution of a bottleneck, which is deformable where the configuration says so.

    Args:
        channels: Channels of its input and of its result.
        number: Number of the bottleneck's stage, 2 to 5.
        config: The backbone's.
        options: As of `Conv`.

    Example:
        >>> from jaxmaskrcnn.config import ResNetConfig
        >>> config = ResNetConfig(deformable_stages=(5,))
        >>> [type(spread_conv(8, i, config, rngs=nnx.Rngs(0))).__name__ for i in (4, 5)]
        ['Conv', 'DeformableConv']
    """
    if number not in config.deformable_stages:
        return Conv(channels, channels, 3, **options)
    return DeformableConv(channels, channels, 3, config.deformable_groups, config.deformable_masks, **options)
