"""Normalisation layers, with one signature: ``norm(x, mask, train)``.

Shapes: B images (or regions), h and w, C channels.
"""

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array


class FrozenStat(nnx.Variable):
    """A constant that comes with the weights: never differentiated, never updated.

    Being no ``nnx.Param``, it is out of the reach of every optimizer and every gradient.
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
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, affine_trainable=False, dtype="float32"):
        self.epsilon = epsilon
        affine = nnx.Param if affine_trainable else FrozenStat
        kind = param_dtype(dtype)
        self.scale, self.bias = affine(jnp.ones(features, kind)), affine(jnp.zeros(features, kind))
        self.mean, self.var = FrozenStat(jnp.zeros(features, kind)), FrozenStat(jnp.ones(features, kind))

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
        return x * scale.astype(x.dtype) + (self.bias[...] - self.mean[...] * scale).astype(x.dtype)


def _settings(epsilon: float, dtype: str) -> dict:
    # The fast variance, mean of squares less square of mean, loses digits that torch keeps.
    kind = param_dtype(dtype)
    return {"epsilon": epsilon, "dtype": jnp.dtype(dtype), "param_dtype": kind, "use_fast_variance": False}


class BatchNorm(nnx.BatchNorm):
    """Ordinary batch norm with torch's settings; padding outside of the extents does not count.

    Source: Ioffe and Szegedy, 2015; torch's momentum 0.1 is Flax's 0.9.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
        super().__init__(
            features,
            momentum=0.9,
            **_settings(epsilon, dtype),
            rngs=rngs,
        )

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        return super().__call__(x, use_running_average=not train, mask=mask)


class GroupNorm(nnx.GroupNorm):
    """Group norm with 32 groups; padding outside of the extents does not count.

    Source: Wu and He, 2018.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
        super().__init__(
            features,
            num_groups=32,
            **_settings(epsilon, dtype),
            rngs=rngs,
        )

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        # Flax splits the mask into groups of channels, so it has to have all of them.
        return super().__call__(x, mask=None if mask is None else jnp.broadcast_to(mask, x.shape))


def make_norm(kind: str, features: int, *, epsilon: float = 1e-5, dtype="float32", rngs: nnx.Rngs):
    """The norm layer that a ``*_norm`` field of ModelConfig names, or None for "none".

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
