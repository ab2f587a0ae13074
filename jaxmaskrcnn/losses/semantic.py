"""The loss of the semantic head, of one image.

Shapes: h and w of the head's map, C its channels (classes of stuff and one of all things), s the map's
stride, H = s h and W = s w of the canvas.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config.semantic import IGNORED, SemanticConfig
from jaxmaskrcnn.ops.semantic import enlarge_bilinear
from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.structures import LossTerm

Array = jax.Array


def semantic_loss(
    logits: Array, labels: Array, size: Array, stride: int, config: SemanticConfig
) -> dict[str, LossTerm]:
    """Cross entropy over the classes of each pixel, one image.

    Source: Panoptic Feature Pyramid Networks, section 3; Detectron2 ``SemSegFPNHead.losses``, MMDetection
    ``PanopticFPNHead.loss``. Detectron2 enlarges the logits to the network's input and divides by the pixels
    that have a label; MMDetection reduces the labels to the map, to the first pixel of each cell, and divides
    by all cells.

    Args:
        logits: float [h, w, C].
        labels: uint8 [H, W]: 0 for all things, 1 to C - 1 for stuff, 255 where nothing is learned.
        size: int [2], height and width of the part of the map that belongs to the image.
        stride: Pixels per cell, static.
        config: Gives the rules, and the loss's weight.

    Returns:
        "loss_semantic".

    Raises:
        ValueError: An array has another shape.

    Example:
        >>> config = SemanticConfig(stuff=("sky", "grass", "sand"), loss_weight=1.0)
        >>> labels = jnp.full((8, 8), 255).at[:4].set(1)
        >>> loss = jax.jit(semantic_loss, static_argnames=("stride", "config"))
        >>> args = jnp.zeros((2, 2, 4)), labels, jnp.array([2, 2])
        >>> term = loss(*args, stride=4, config=config)["loss_semantic"]
        >>> round(float(term.total), 2), float(term.count)  # 32 pixels with a label, 4 equal logits
        (44.36, 32.0)
    """
    h, w, _ = logits.shape
    check_shapes(
        "semantic_loss",
        logits=(logits, f"h w {config.channels}"),
        labels=(labels, f"{h * stride} {w * stride}"),
        size=(size, "2"),
    )
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    inside = (jnp.arange(h) < size[0])[:, None] & (jnp.arange(w) < size[1])[None]
    if config.loss_at == "map":
        labels = labels[::stride, ::stride]
        total = _entropy(logits, jnp.where(inside, labels, IGNORED), config)
    else:
        total = _of_enlarged(logits, labels, size, stride, config)
    learned = labels != IGNORED
    number = learned.sum() if config.loss_count == "labelled" else inside.sum() * (labels.size // inside.size)
    return {"loss_semantic": LossTerm(total * config.loss_weight, number.astype(total.dtype))}


def _of_enlarged(logits: Array, labels: Array, size: Array, stride: int, config: SemanticConfig) -> Array:
    """The sum over all pixels of the input.

    The enlarged logits of one of ``stride`` rows at a time are in memory, and computed again for the
    gradient.
    """
    rows = enlarge_bilinear(logits[None], stride, size[None], axes=(1,))[0]
    rows = rows.reshape(-1, stride, *rows.shape[1:]).swapaxes(0, 1)  # [s, h, w, C]

    @jax.checkpoint
    def one(rows, labels):
        return _entropy(enlarge_bilinear(rows[None], stride, size[None], axes=(2,))[0], labels, config)

    parts = labels.reshape(-1, stride, labels.shape[1]).swapaxes(0, 1)
    return jax.lax.map(lambda pair: one(*pair), (rows, parts)).sum()


def _entropy(logits: Array, labels: Array, config: SemanticConfig) -> Array:
    """The sum of the cross entropies of all pixels that have a label."""
    channels = config.channels
    labels = labels.astype(jnp.int32)
    if config.things == "last":
        own = jnp.where(labels == 0, channels - 1, labels - 1)
    else:
        own = labels
    own = jnp.where(labels == IGNORED, 0, own)
    # The gradient of a sum is one pass; the gradient of a gather would be a scatter into zeros.
    chosen = jnp.where(jnp.arange(channels)[None, None] == own[..., None], logits, 0).sum(-1)
    entropy = jax.nn.logsumexp(logits, axis=-1) - chosen
    return jnp.where(labels == IGNORED, 0, entropy).sum()
