"""Detectors for tests: the real one with weights that cost no compilation, and quick stand-ins."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.structures import Batch, Detections
from jaxmaskrcnn.zoo.lookup import model_config


def small_config(**overrides) -> ModelConfig:
    """The real architecture, as narrow as it can be."""
    values = {
        "backbone.width": 8,
        "backbone.norm": "frozen_bn",
        "neck.norm": "none",
        "neck.channels": 8,
        "box.fc_dim": 8,
        "mask.convs": 1,
        "mask.dim": 8,
        "rpn.pre_nms_test": 50,
        "rpn.post_nms_test": 10,
        "detections.per_image": 6,
        "input.test_min_size": 64,
        "input.test_max_size": 64,
    }
    values |= overrides
    if "mask" in overrides:  # None has no settings
        values = {path: value for path, value in values.items() if not path.startswith("mask.")}
    return model_config("jaxmaskrcnn/shapes", **values)


def random_model(config: ModelConfig, seed: int = 0) -> MaskRCNN:
    """A model with random weights made by NumPy; initialisers would have to be compiled."""
    rng = np.random.default_rng(seed)
    graphdef, state = nnx.split(abstract_model(config))
    values = []
    for path, variable in nnx.to_flat_state(state):
        if path[-1] == "kernel":
            value = rng.normal(scale=np.prod(variable.shape[:-1]) ** -0.5, size=variable.shape)
        else:
            # Half the scale after every convolution keeps sixteen residual additions in bounds.
            value = np.full(variable.shape, {"scale": 0.5, "var": 1.0}.get(path[-1], 0.0))
        values.append((path, variable.replace(jnp.asarray(value, variable.dtype))))
    return nnx.merge(graphdef, nnx.from_flat_state(values))


def flat(module: nnx.Module) -> dict[str, np.ndarray]:
    """A module's arrays by path."""
    return {".".join(map(str, p)): np.asarray(v[...]) for p, v in nnx.to_flat_state(nnx.state(module))}


class Stub(nnx.Module):
    """Detects fixed places of an image with scores that depend on its pixels."""

    def __init__(self, config: ModelConfig):
        self.config = config
        self.weight = nnx.Param(jnp.linspace(0.5, 1.0, 4))

    @property
    def categories(self):
        return self.config.known_categories()

    def detect(self, batch: Batch) -> Detections:
        height, width = batch.image_sizes.T[:, :, None]  # [B, 1] each
        places = jnp.array([[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0], [0.4, 0.3, 0.9, 0.6], [0.2] * 4])
        places = places.at[3, 2:].set(0.5)
        boxes = places * jnp.stack([width, height, width, height], -1)
        mean = batch.images.sum((1, 2, 3)) / batch.image_sizes.prod(-1)
        scores = self.weight[...] * (0.6 + 0.3 * jnp.tanh(mean))[:, None]
        order = jnp.argsort(-scores, axis=1)
        ramp = jnp.linspace(0.1, 0.95, 28)
        masks = jnp.broadcast_to(jnp.outer(ramp, ramp) ** 0.5, (*scores.shape, 28, 28))
        scores = jnp.take_along_axis(scores, order, 1)
        return Detections(
            boxes=jnp.take_along_axis(boxes, order[..., None], 1),
            scores=scores,
            labels=order % self.config.num_classes,
            masks=masks if self.config.mask is not None else None,
            valid=scores > self.config.detections.score_threshold,
        )


class Oracle(nnx.Module):
    """Knows a data set's answers (full rectangles); detects them at the network's scale."""

    def __init__(self, config: ModelConfig, source):
        self.config = config
        slots = 3  # one more than there are objects
        boxes, labels, valid = (np.zeros((len(source), slots, *s)) for s in ((4,), (), ()))
        for i in range(len(source)):
            example = source[i]
            n = len(example.labels)
            boxes[i, :n], labels[i, :n], valid[i, :n] = example.boxes, example.labels, 1
        self.boxes, self.labels, self.valid = (nnx.Param(jnp.asarray(a)) for a in (boxes, labels, valid))

    def detect(self, batch: Batch) -> Detections:
        ratio = batch.image_sizes / batch.original_sizes  # [B, 2]
        boxes = self.boxes[...][batch.index] * jnp.tile(ratio[:, ::-1], 2)[:, None]
        valid = self.valid[...][batch.index] > 0
        return Detections(
            boxes=boxes,
            scores=jnp.where(valid, 0.9, 0.0),
            labels=self.labels[...][batch.index].astype(jnp.int32),
            masks=jnp.ones((*valid.shape, 28, 28)),
            valid=valid,
        )
