"""What the tests of Keypoint R-CNN against torchvision and against Detectron2 share."""

import jax
import jax.numpy as jnp
import numpy as np
from goldens.seeded_weights import (
    DECODED_BOXES,
    sampled,
    seeded_heatmaps,
    seeded_keypoints,
    seeded_projection,
)
from training_helpers import check, check_gradients

from jaxmaskrcnn.ops.keypoints import decode_keypoints, keypoint_cells

POINTS = ("nose", "left_hand", "right_hand", "left_foot", "right_foot")


def check_decoding(golden, score):
    """Places to 0.001 pixels, scores to 1e-4."""
    boxes = np.float32(DECODED_BOXES)
    ours = decode_keypoints(seeded_heatmaps(len(boxes), 17), boxes, score)
    check("decoded places, pixels", np.abs(ours - golden["decoded"])[..., :2], 1e-3)
    check("scores of keypoints", np.abs(ours[..., 2] / golden["decoded"][..., 2] - 1), 1e-4)


def check_cells(golden):
    boxes = np.float32(DECODED_BOXES)
    keypoints = seeded_keypoints(boxes, 17)
    keypoints[0, 0] = 210, 120, 1
    cells, inside = jax.jit(keypoint_cells, static_argnums=2)(keypoints, boxes, 56)
    np.testing.assert_array_equal(inside, golden["inside"])
    np.testing.assert_array_equal(cells, golden["cells"])
    assert golden["inside"].any() and not golden["inside"].all() and golden["inside"][0, 0]


def check_head(golden, head, channels):
    """The logits of the same regions, 1e-4 of the largest."""
    regions = seeded_projection("regions", (4, channels, 14, 14)).transpose(0, 2, 3, 1)
    logits = np.asarray(jax.jit(lambda head, x: head(x))(head, jnp.asarray(regions))).transpose(0, 3, 1, 2)
    ours = sampled("head", np.ascontiguousarray(logits), len(golden["head"]))
    check("logits of the head", np.abs(ours - golden["head"]) / np.abs(golden["head"]).max(), 1e-4)


def check_all_gradients(case, gradient, golden, weights, table):
    """Of every parameter but the last bias, whose gradient is zero: it moves all cells of a map alike."""
    names = [name for name in weights if f"gradient/{name}" in golden]
    (last,) = (name for name in names if name.endswith("score_lowres.bias"))
    largest = max(golden[f"gradient/{name}"][-1] for name in names)
    gradient = dict(gradient)
    for found in (golden[f"gradient/{last}"][-1], np.abs(gradient.pop(table.translate(last)[0])).max()):
        assert found < 1e-6 * largest
    names.remove(last)
    expected = {name: golden[f"gradient/{name}"] for name in names}
    check_gradients(case, gradient, expected, {name: weights[name] for name in names}, table)


def check_found(golden, number, out):
    """Detections in their order: boxes to 0.05 pixels, scores to 1e-4, keypoints to 0.1 pixels."""
    theirs = {name: golden[f"found/{number}/{name}"] for name in ("boxes", "scores", "keypoints")}
    assert len(out["boxes"]) == len(theirs["boxes"]) > 0
    check(f"image {number}, boxes, pixels", np.abs(out["boxes"] - theirs["boxes"]), 0.05)
    check(f"image {number}, scores", np.abs(out["scores"] - theirs["scores"]), 1e-4)
    check(f"image {number}, keypoints, pixels", np.abs(out["keypoints"] - theirs["keypoints"])[..., :2], 0.1)
    error = np.abs(out["keypoints"][..., 2] - theirs["keypoints"][..., 2])
    check(f"image {number}, scores of keypoints", error / np.abs(theirs["keypoints"][..., 2]).max(), 1e-3)
