"""The last stage of a ResNet, applied to pooled regions instead of the whole image (He et al., 2015).

Shapes: R regions of all images, S the pooled side, C channels.
"""

import jax
from flax import nnx

from jaxmaskrcnn.config.backbones import ResNetConfig
from jaxmaskrcnn.config.heads import Res5Config
from jaxmaskrcnn.models.backbones.resnet import run_blocks, stage

Array = jax.Array


class Res5(nnx.Module):
    """The blocks after C4, applied to each region like an image of its own with zeros around it.

    Source: He et al., 2017, figure 4, left; Detectron2 ``Res5ROIHeads``.

    Args:
        config: The part, which has no settings.
        backbone: The ResNet whose last stage this is.
        dtype: Dtype of the activations.
        rngs: Random keys of the initial weights.

    Attributes:
        layer4: List of blocks, with the name that they have in a complete ResNet.

    Example:
        >>> config = ResNetConfig(width=8, outputs=(4,))
        >>> trunk = nnx.eval_shape(lambda: Res5(Res5Config(), config, rngs=nnx.Rngs(0)))
        >>> jax.eval_shape(lambda trunk, x: trunk(x), trunk, jnp.zeros((5, 14, 14, 128))).shape
        (5, 7, 7, 256)
    """

    def __init__(self, config: Res5Config, backbone: ResNetConfig, *, dtype: str = "float32", rngs: nnx.Rngs):
        config.channels(backbone)  # refuses other backbones
        self.layer4 = stage(backbone, 5, backbone.stage(4).channels, 2, dtype=dtype, rngs=rngs)

    def __call__(self, regions: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Compute the features of regions.

        Args:
            regions: [R, S, S, C], pooled from C4.
            mask: bool [R, 1, 1, 1], regions that count for batch norm; None for all.
            train: See `Pass`.

        Returns:
            [R, S/2, S/2, 2 C], rounded up.
        """
        return run_blocks(self.layer4, regions, mask, mask, train)
