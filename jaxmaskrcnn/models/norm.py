"""Normalisation layers, with one signature: ``norm(x, mask, train)``.

Shapes: B images (or regions), h and w, C channels.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array


class FrozenStat(nnx.Variable):
    """A constant that comes with the weights: never differentiated, never updated.

    Being no ``nnx.Param``, it is out of the reach of every optimizer and every gradient. A type of
    Flax's variables of its own, so that filters can name it.

    Example:
        >>> layer = FrozenBatchNorm(4)
        >>> [len(jax.tree.leaves(nnx.state(layer, kind))) for kind in (FrozenStat, nnx.Param)]
        [4, 0]
    """


def param_dtype(dtype: str) -> jnp.dtype:
    """The dtype of parameters beside activations of ``dtype``: float32, but float64 for float64."""
    return jnp.float64 if dtype == "float64" else jnp.float32


class FrozenBatchNorm(nnx.Module):
    """Batch norm as a fixed affine map: ``x * s + (bias - mean * s)``, ``s = scale / sqrt(var + eps)``.

    Source: torchvision ``ops.misc.FrozenBatchNorm2d``; Detectron2 ``layers.FrozenBatchNorm2d``.

    Args:
        features: Number of channels C.
        epsilon: Added to the variance. torchvision's COCO_V1 weights were made with 0.
        affine_trainable: Train scale and bias and keep the statistics fixed, as MMDetection's
            ``norm_eval=True`` does.
        dtype: Of the activations, as in ComputeConfig.

    Attributes:
        scale, bias, mean, var: [C], as torch names them weight, bias, running_mean and running_var.

    Example:
        >>> layer = FrozenBatchNorm(4)
        >>> layer.mean[...] = jnp.ones(4)
        >>> layer(jnp.ones((1, 2, 2, 4))).max()
        Array(0., dtype=float32)
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, affine_trainable=False, dtype="float32"):
        self.epsilon = epsilon
        affine = nnx.Param if affine_trainable else FrozenStat
        kind = param_dtype(dtype)
        self.scale, self.bias = affine(jnp.ones(features, kind)), affine(jnp.zeros(features, kind))
        self.mean, self.var = FrozenStat(jnp.zeros(features, kind)), FrozenStat(jnp.ones(features, kind))

    def affine(self) -> tuple[Array, Array]:
        """What the statistics and the affine part come to.

        Returns:
            Factor and summand of each channel, both [C].
        """
        scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
        return scale, self.bias[...] - self.mean[...] * scale

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """The affine map; two arguments are for the other norms' sake.

        Args:
            x: [B, h, w, C].
            mask: [B, h, w, 1], not looked at.
            train: Not looked at.

        Returns:
            [B, h, w, C].
        """
        scale, shift = self.affine()
        return x * scale.astype(x.dtype) + shift.astype(x.dtype)


def sum_over(axis_name: str | None) -> Callable:
    """``psum`` over a named axis; for None, which is a single replica, what is passed in."""
    return functools.partial(jax.lax.psum, axis_name=axis_name) if axis_name else lambda tree: tree


class BatchNorm(nnx.Module):
    """Ordinary batch norm with torch's settings; padding outside of the extents does not count.

    The statistics of a batch that is split over devices are those of the whole batch, where the axis
    of the devices is named (`synchronise`): counts and sums are added up over the devices, so that a
    device with much padding, or with few regions, counts for as much as it has. Slices of a batch
    that are computed one after the other (gradient accumulation) have statistics of their own, and
    each of them moves the running ones.

    Source: Ioffe and Szegedy, 2015; torchvision's and Detectron2's momentum 0.1 is 0.9 here.

    Args:
        features: Number of channels C.
        epsilon: Added to the variance.
        dtype: Of the activations, as in ComputeConfig.
        rngs: Unused by the constant initial values, but what Flax's layers ask for.

    Attributes:
        scale, bias: The trained affine map, [C].
        mean, var: Running statistics, [C].
        axis_name: Axis of the devices to add up over; None for the batch at hand alone.

    Example:
        >>> layer = BatchNorm(4, rngs=nnx.Rngs(0))
        >>> y = layer(jnp.ones((1, 2, 2, 4)), train=True)
        >>> y.max(), layer.mean[0]
        (Array(0., dtype=float32), Array(0.1, dtype=float32))
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
        kind = param_dtype(dtype)
        self.scale, self.bias = nnx.Param(jnp.ones(features, kind)), nnx.Param(jnp.zeros(features, kind))
        self.mean, self.var = (
            nnx.BatchStat(jnp.zeros(features, kind)),
            nnx.BatchStat(jnp.ones(features, kind)),
        )
        self.epsilon, self.momentum, self.dtype = epsilon, 0.9, dtype
        self.axis_name: str | None = None

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Normalise a batch.

        Args:
            x: [B, h, w, C].
            mask: bool, broadcastable to [B, h, w, 1]: cells that count for the statistics; None for all.
            train: Use the statistics of the batch and move the running ones.

        Returns:
            [B, h, w, C].
        """
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, var = self._batch_statistics(x, mask) if train else (self.mean[...], self.var[...])
        y = (x - mean) * (jax.lax.rsqrt(var + self.epsilon) * self.scale[...]) + self.bias[...]
        return y.astype(self.dtype)

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
        # The fast variance, mean of squares less square of mean, loses digits that torch keeps.
        var = everywhere(jnp.square(jnp.where(counted, x - mean, 0)).sum(axes)) / divisor
        for running, now in ((self.mean, mean), (self.var, var)):
            moved = self.momentum * running[...] + (1 - self.momentum) * jax.lax.stop_gradient(now)
            running[...] = jnp.where(count > 0, moved, running[...]).astype(running.dtype)
        return mean, var


def synchronise(model: nnx.Module, axis_name: str | None) -> None:
    """Let every `BatchNorm` of a model take its statistics over the devices of a named axis.

    Args:
        model: Changed in place; nothing but a name is stored.
        axis_name: As ``jax.pmap`` or a mesh names it; None undoes it.

    Example:
        >>> from flax import nnx
        >>> layer = BatchNorm(8, rngs=nnx.Rngs(0))
        >>> synchronise(layer, "batch")
        >>> layer.axis_name
        'batch'
    """
    for _, module in nnx.iter_graph(model):
        if isinstance(module, BatchNorm):
            module.axis_name = axis_name


class GroupNorm(nnx.GroupNorm):
    """Group norm with 32 groups; padding outside of the extents does not count.

    Source: Wu and He, 2018, as in Detectron2 and MMDetection.

    Args:
        features: Number of channels C, a multiple of 32.
        epsilon: Added to the variance.
        dtype: Of the activations, as in ComputeConfig.
        rngs: Unused by the constant initial values, but what Flax's layers ask for.

    Example:
        >>> GroupNorm(32, rngs=nnx.Rngs(0))(jnp.ones((1, 2, 2, 32))).max()
        Array(0., dtype=float32)
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
        super().__init__(
            features,
            num_groups=32,
            epsilon=epsilon,
            dtype=jnp.dtype(dtype),
            param_dtype=param_dtype(dtype),
            use_fast_variance=False,  # see BatchNorm
            rngs=rngs,
        )

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Normalise every image by itself.

        Args:
            x: [B, h, w, C].
            mask: bool, broadcastable to [B, h, w, C]: cells that count for the statistics; None for all.
            train: Not looked at: there are no running statistics.

        Returns:
            [B, h, w, C].
        """
        # Flax splits the mask into groups of channels, so it has to have all of them.
        return super().__call__(x, mask=None if mask is None else jnp.broadcast_to(mask, x.shape))


def make_norm(kind: str, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
    """The norm layer that a part's ``norm`` names, or None for "none".

    Args:
        kind: "frozen_bn", "bn", "bn_eval" (trainable affine part, fixed statistics), "gn" or "none".
        features: Number of channels.
        epsilon: Added to the variance.
        dtype: Of the activations.
        rngs: Unused by the constant initial values, but what Flax's layers ask for.
    """
    if kind == "none":
        return None
    if kind in ("frozen_bn", "bn_eval"):
        return FrozenBatchNorm(features, epsilon=epsilon, affine_trainable=kind == "bn_eval", dtype=dtype)
    layer = {"bn": BatchNorm, "gn": GroupNorm}[kind]
    return layer(features, epsilon=epsilon, dtype=dtype, rngs=rngs)
