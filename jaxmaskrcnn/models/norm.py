"""Normalisation layers, with one signature: ``norm(x, mask, train)``.

Shapes: B images (or regions), h and w, C channels.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config.backbones import GROUPS
from jaxmaskrcnn.ops.shapes import to_rank

Array = jax.Array


class FrozenStat(nnx.Variable):
    """A constant that belongs to the weights and is never differentiated or updated.

    As it is not an ``nnx.Param``, no optimizer and no gradient uses it. It is a separate type of Flax
    variable, so that filters can name it.

    Example:
        >>> layer = FrozenBatchNorm(4)
        >>> [len(jax.tree.leaves(nnx.state(layer, type_))) for type_ in (FrozenStat, nnx.Param)]
        [4, 0]
    """


def param_dtype(dtype: str) -> jnp.dtype:
    """The dtype of parameters for activations of ``dtype``: float64 for float64, otherwise float32."""
    return jnp.float64 if dtype == "float64" else jnp.float32


class FrozenBatchNorm(nnx.Module):
    """Batch norm as a fixed affine map: ``x * s + (bias - mean * s)``, ``s = scale / sqrt(var + eps)``.

    Source: torchvision ``ops.misc.FrozenBatchNorm2d``; Detectron2 ``layers.FrozenBatchNorm2d``.

    Args:
        features: Number of channels C.
        epsilon: Added to the variance. torchvision's COCO_V1 weights were made with 0.
        affine_trainable: Whether to train scale and bias with fixed statistics, as MMDetection's
            ``norm_eval=True`` does.
        dtype: Dtype of the activations, as in ComputeConfig.

    Attributes:
        scale, bias, mean, var: [C]; torch calls them weight, bias, running_mean and running_var.

    Example:
        >>> layer = FrozenBatchNorm(4)
        >>> layer.mean[...] = jnp.ones(4)
        >>> layer(jnp.ones((1, 2, 2, 4))).max()
        Array(0., dtype=float32)
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, affine_trainable=False, dtype="float32"):
        self.epsilon = epsilon
        affine = nnx.Param if affine_trainable else FrozenStat
        shape, dtype = (features,), param_dtype(dtype)
        self.scale, self.bias = affine(jnp.ones(shape, dtype)), affine(jnp.zeros(shape, dtype))
        self.mean, self.var = FrozenStat(jnp.zeros(shape, dtype)), FrozenStat(jnp.ones(shape, dtype))

    def affine(self) -> tuple[Array, Array]:
        """Combines the statistics and the affine part.

        Returns:
            Factor and summand of each channel, both [C].
        """
        return _affine(self.scale[...], self.bias[...], self.mean[...], self.var[...], self.epsilon)

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """The affine map.

        Args:
            x: [B, h, w, C].
            mask: [B, h, w, 1]; unused, because all norm layers have the same arguments.
            train: Unused, likewise.

        Returns:
            [B, h, w, C].
        """
        scale, shift = (to_rank(part.astype(x.dtype), x.ndim) for part in self.affine())
        return x * scale + shift


def _affine(scale: Array, bias: Array, mean: Array, var: Array, epsilon: float) -> tuple[Array, Array]:
    """Factor and summand of each channel of a batch norm with known statistics."""
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor


def sum_over(axis_name: str | None) -> Callable:
    """``psum`` over a named axis, or the identity for None, which means a single replica."""
    return functools.partial(jax.lax.psum, axis_name=axis_name) if axis_name else lambda tree: tree


class Synchronised(nnx.Module):
    """A module that adds up numbers over the devices of a named axis; see `synchronise`.

    Attributes:
        axis_name: Axis of the devices to sum over; None for the local batch alone.

    Example:
        >>> Synchronised().axis_name is None
        True
    """

    def __init__(self):
        self.axis_name: str | None = None


class BatchNorm(Synchronised):
    """Ordinary batch norm with torch's settings; padding outside the extents is ignored.

    If the axis of the devices is named (`synchronise`), the statistics of a batch that is split over
    devices are those of the whole batch: counts and sums are added over the devices, so that a device
    is weighted by its number of valid cells. Slices of a batch that are computed successively (gradient
    accumulation) have separate statistics, and each of them updates the running ones.

    Source: Ioffe and Szegedy, 2015; torchvision's and Detectron2's momentum 0.1 is 0.9 here.

    Args:
        features: Number of channels C.
        epsilon: Added to the variance.
        dtype: Dtype of the activations, as in ComputeConfig.
        rngs: Unused, as the initial values are constant; Flax's layers take it.

    Attributes:
        scale, bias: The trained affine map, [C].
        mean, var: Running statistics, [C].
        axis_name: Axis of the devices to sum over; None for the statistics of the local batch.

    Example:
        >>> layer = BatchNorm(4, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.ones((1, 2, 2, 4)), train=True)
        >>> y.max(), layer.mean[0]
        (Array(0., dtype=float32), Array(0.1, dtype=float32))
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
        super().__init__()
        shape, stored = (features,), param_dtype(dtype)
        self.scale, self.bias = nnx.Param(jnp.ones(shape, stored)), nnx.Param(jnp.zeros(shape, stored))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(shape, stored)), nnx.BatchStat(jnp.ones(shape, stored))
        self.epsilon, self.momentum, self.dtype = epsilon, 0.9, dtype

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Normalise a batch.

        Args:
            x: [B, h, w, C].
            mask: bool, broadcastable to [B, h, w, 1]: cells that count for the statistics; None for all.
            train: Whether to use the statistics of the batch and update the running ones.

        Returns:
            [B, h, w, C].
        """
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, var = self._batch_statistics(x, mask) if train else (self.mean[...], self.var[...])
        factor = jax.lax.rsqrt(var + self.epsilon) * self.scale[...]
        y = (x - to_rank(mean, x.ndim)) * to_rank(factor, x.ndim) + to_rank(self.bias[...], x.ndim)
        return y.astype(self.dtype)

    def affine(self) -> tuple[Array, Array]:
        """Combines the running statistics and the affine part, which is the map outside of training.

        Returns:
            Factor and summand of each channel, both [C].
        """
        return _affine(self.scale[...], self.bias[...], self.mean[...], self.var[...], self.epsilon)

    def _batch_statistics(self, x: Array, mask: Array | None) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))
        everywhere = sum_over(self.axis_name)
        if mask is None:
            counted, local = True, jnp.asarray(x.size // x.shape[-1], x.dtype)
        else:
            counted = jnp.broadcast_to(mask, (*x.shape[:-1], 1))
            local = counted.sum(dtype=x.dtype)
        count = everywhere(local)
        divisor = jnp.maximum(count, 1)
        mean = everywhere(jnp.where(counted, x, 0).sum(axes)) / divisor
        # The mean of squares minus the square of the mean would lose digits that torch keeps.
        var = everywhere(jnp.square(jnp.where(counted, x - to_rank(mean, x.ndim), 0)).sum(axes)) / divisor
        for running, now in ((self.mean, mean), (self.var, var)):
            moved = self.momentum * running[...] + (1 - self.momentum) * jax.lax.stop_gradient(now)
            running[...] = jnp.where(count > 0, moved, running[...]).astype(running.dtype)
        return mean, var


def synchronise(model: nnx.Module, axis_name: str | None) -> None:
    """Makes every `BatchNorm`, and all else that is `Synchronised`, count over the devices of a named axis.

    Args:
        model: Changed in place; only the name is stored.
        axis_name: As ``jax.pmap`` or a mesh names it; None undoes it.

    Example:
        >>> from flax import nnx
        >>> layer = BatchNorm(8, rngs=nnx.Rngs(0))
        >>> synchronise(layer, "batch")
        >>> layer.axis_name
        'batch'
    """
    for _, module in nnx.iter_graph(model):
        if isinstance(module, Synchronised):
            module.axis_name = axis_name


class GroupNorm(nnx.GroupNorm):
    """Group norm with 32 groups; padding outside the extents is ignored.

    Source: Wu and He, 2018, as in Detectron2 and MMDetection.

    Args:
        features: Number of channels C, a multiple of 32.
        epsilon: Added to the variance.
        dtype: Dtype of the activations, as in ComputeConfig.
        rngs: Unused, as the initial values are constant; Flax's layers take it.

    Example:
        >>> GroupNorm(32, rngs=nnx.Rngs(0))(jnp.ones((1, 2, 2, 32))).max()
        Array(0., dtype=float32)
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
        super().__init__(
            features,
            num_groups=GROUPS,
            epsilon=epsilon,
            dtype=jnp.dtype(dtype),
            param_dtype=param_dtype(dtype),
            use_fast_variance=False,  # see BatchNorm
            rngs=rngs,
        )

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Normalise every image separately.

        Args:
            x: [B, h, w, C].
            mask: bool, broadcastable to [B, h, w, C]: cells that count for the statistics; None for all. All
                cells of an image count if none of them is marked, as of the padding among regions.
            train: Unused, as there are no running statistics.

        Returns:
            [B, h, w, C].
        """
        if mask is not None:
            # The mean of no cells is NaN; the loss leaves it out, but its gradient would not.
            mask = mask | ~mask.any((1, 2), keepdims=True)
            # Flax splits the mask into groups of channels, so it needs the full number of channels.
            mask = jnp.broadcast_to(mask, x.shape)
        return super().__call__(x, mask=mask)


class StandardisedGroupNorm(GroupNorm):
    """Group norm after a convolution whose kernel is standardised (`layers.standardised`).

    Source: Qiao et al., 2019, "Weight Standardization"; MMDetection's GN after ``ConvWS``. Arguments as of
    `GroupNorm`.
    """


class LayerNorm(nnx.LayerNorm):
    """Layer norm over the channels of each cell, which needs no mask.

    Source: Ba et al., 2016, as in vision transformers; Detectron2's "LN" after convolutions.

    Args:
        features: Number of channels C.
        epsilon: Added to the variance.
        dtype: Dtype of the activations, as in ComputeConfig.
        rngs: Unused, as the initial values are constant; Flax's layers take it.

    Attributes:
        scale, bias: The trained affine map, [C].

    Example:
        >>> LayerNorm(4, rngs=nnx.Rngs(0))(jnp.ones((1, 2, 2, 4))).max()
        Array(0., dtype=float32)
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
        super().__init__(
            features,
            epsilon=epsilon,
            dtype=jnp.dtype(dtype),
            param_dtype=param_dtype(dtype),
            use_fast_variance=False,  # see BatchNorm
            rngs=rngs,
        )

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Normalise every cell separately.

        Args:
            x: [..., C].
            mask: Unused, because all norm layers have the same arguments.
            train: Unused, likewise.

        Returns:
            [..., C].
        """
        return super().__call__(x)


def make_norm(name: str, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
    """The norm layer that a part's ``norm`` names, or None for "none".

    Args:
        name: "frozen_bn", "bn", "bn_eval" (trainable affine part, fixed statistics), "gn", "gn_ws", "ln" or
            "none".
        features: Number of channels.
        epsilon: Added to the variance.
        dtype: Dtype of the activations.
        rngs: Unused, as the initial values are constant; Flax's layers take it.
    """
    if name == "none":
        return None
    if name in ("frozen_bn", "bn_eval"):
        return FrozenBatchNorm(features, epsilon=epsilon, affine_trainable=name == "bn_eval", dtype=dtype)
    layer = {"bn": BatchNorm, "gn": GroupNorm, "gn_ws": StandardisedGroupNorm, "ln": LayerNorm}[name]
    return layer(features, epsilon=epsilon, dtype=dtype, rngs=rngs)
