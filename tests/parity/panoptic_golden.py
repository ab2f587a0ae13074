"""What the tests of Panoptic FPN against Detectron2 and against MMDetection share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from goldens.seeded_weights import (
    SEGMENT_AREA,
    sampled,
    seeded_entropy,
    seeded_projection,
    seeded_segments,
)
from training_helpers import check

from jaxmaskrcnn.losses import semantic_loss
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.ops.panoptic import combine

STUFF = 4


def combined(number, **options):
    """Our segments of made-up instances, each mask in a window around it."""
    given = seeded_segments(number)
    windows = []
    for mask in given["masks"]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            windows.append((mask[:3, :4], (5, 7)))
            continue
        top, left = rows[0], columns[0]
        windows.append((mask[top : rows[-1] + 1, left : columns[-1] + 1], (top, left)))
    return combine(
        windows, given["scores"], given["labels"], given["semantic"], stuff_area=SEGMENT_AREA, **options
    )


def check_entropy(golden, semantic):
    """The loss to 1e-5 and its gradient with respect to the logits to 1e-5 of the largest."""
    config = dataclasses.replace(semantic, loss_weight=0.5)
    logits, labels = seeded_entropy()
    logits = logits.transpose(0, 2, 3, 1)

    def loss(logits):
        size = jnp.array([9, 12])
        terms = jax.vmap(lambda x, y: semantic_loss(x, y, size, 4, config))(logits, labels)["loss_semantic"]
        return terms.total.sum() / terms.count.sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(logits)
    check("cross entropy", abs(float(value) / golden["entropy"] - 1), 1e-5)
    theirs = golden["entropy/gradient"].transpose(0, 2, 3, 1)
    check("its gradient", np.abs(gradient - theirs).max() / np.abs(theirs).max(), 1e-5)


def check_head(golden, head, channels):
    """Branches and logits of the same levels, 1e-4 of the largest."""
    levels = [
        jnp.asarray(seeded_projection(f"p{i}", (2, channels, 128 >> i, 192 >> i)).transpose(0, 2, 3, 1))
        for i in range(2, 6)
    ]
    branches = [
        head._at_finest(branch, level, stride, Pass())
        for branch, level, stride in zip(head.branches, levels, head.strides, strict=True)
    ]
    for i, ours in enumerate([*branches, head(levels)]):
        name, seed = (f"branch/{i}", f"branch{i}") if i < 4 else ("head", "head")
        values = np.ascontiguousarray(np.asarray(ours).transpose(0, 3, 1, 2))
        theirs = golden[name]
        error = np.abs(sampled(seed, values, len(theirs)) - theirs)
        check(name, error / np.abs(theirs).max(), 1e-4)


def check_all_gradients(case, gradient, golden, weights, table, check_gradients):
    expected = {name: golden[f"gradient/{name}"] for name in weights if f"gradient/{name}" in golden}
    check_gradients(case, gradient, expected, {name: weights[name] for name in expected}, table)


def check_labels(name, ours, theirs):
    """Equal in 99.9 % of the pixels."""
    check(f"{name}, pixels that differ", 1 - (ours == theirs).mean(), 1e-3)
