"""Box geometry against NumPy, and against what torchvision recorded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS
from jax.test_util import check_grads

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops.boxes import generalised_iou

GOLDEN = np.load(GOLDENS / "torchvision_ops_boxes.npz")
BOX_IOU, BOX_IOF = jax.jit(ops.box_iou), jax.jit(ops.box_iof)
WEIGHTS = {"rpn": (1.0, 1.0, 1.0, 1.0), "box": (10.0, 10.0, 5.0, 5.0)}


def random_boxes(rng, n):
    corner = rng.uniform(-20, 80, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(2, 60, (n, 2))], axis=1).astype(np.float32)


def jitted(coder, *rules):
    """Of two arrays of boxes, with weights and clamp."""
    return jax.jit(lambda one, two: coder(one, two, *rules))


def iou_loop(a, b):
    out = np.zeros((len(a), len(b)))
    for i, (ax1, ay1, ax2, ay2) in enumerate(a.astype(np.float64)):
        for j, (bx1, by1, bx2, by2) in enumerate(b.astype(np.float64)):
            w, h = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
            shared = max(w, 0) * max(h, 0)
            out[i, j] = shared / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared)
    return out


def test_iou_and_iof_equal_a_loop():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 30), random_boxes(rng, 20)
    expected = iou_loop(a, b)
    assert (expected > 0).mean() > 0.2
    np.testing.assert_allclose(BOX_IOU(a, b), expected, atol=1e-6)
    # iou = shared / (area a + area b - shared), solved for shared / area a
    area = jax.jit(ops.box_area)
    area_a, area_b = np.asarray(area(a))[:, None], np.asarray(area(b))[None]
    np.testing.assert_allclose(
        BOX_IOF(a, b), expected * (area_a + area_b) / (1 + expected) / area_a, atol=1e-5
    )


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_iou_has_the_very_bits_of_torchvision(transform):
    # Thresholds and ties are decided by the last bit.
    iou = transform(ops.box_iou)(GOLDEN["iou_a"], GOLDEN["iou_b"])
    np.testing.assert_array_equal(iou, GOLDEN["iou"])


def test_a_compiled_iou_equals_itself_wherever_it_is_used():
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 50), random_boxes(rng, 5000)

    @jax.jit
    def ties(a, b):
        iou = ops.box_iou(a, b)
        return (iou == iou.max(axis=1, keepdims=True)).any(axis=1)

    assert np.asarray(ties(a, b)).all()


def test_degenerate_boxes_overlap_nothing():
    boxes = np.array(
        [[0, 0, 0, 0], [5, 5, 5, 9], [8, 8, 2, 2], [8, 2, 2, 8], [0, 0, 10, 10], [np.nan] * 4], np.float32
    )
    iou = np.asarray(BOX_IOU(boxes, boxes))
    expected = np.zeros((6, 6))
    expected[4, 4] = 1
    np.testing.assert_array_equal(iou, expected)
    np.testing.assert_array_equal(BOX_IOF(boxes, boxes), expected)
    grad = jax.jit(jax.grad(lambda a: (ops.box_iou(a, boxes[:5]) + ops.box_iof(a, boxes[:5])).sum()))(
        boxes[:5]
    )
    assert np.isfinite(grad).all()


def test_epsilon_is_a_lower_limit_of_the_union():
    box = jnp.array([[0.0, 0.0, 1e-4, 1e-4]])
    assert ops.box_iou(box, box)[0, 0] == 1
    np.testing.assert_allclose(ops.box_iou(box, box, epsilon=1e-6), [[1e-2]], rtol=1e-5)


def test_bfloat16_boxes_are_measured_in_float32():
    box = jnp.array([[0, 0, 15, 17]], jnp.bfloat16)
    assert ops.box_area(box).dtype == jnp.float32
    assert ops.box_area(box)[0] == 255


@pytest.mark.parametrize("name", WEIGHTS)
def test_coder_equals_torchvision(name):
    boxes, targets = GOLDEN["iou_a"], GOLDEN["iou_b"][:40]
    encode, decode = jitted(ops.encode_boxes, WEIGHTS[name]), jitted(ops.decode_boxes, WEIGHTS[name])
    np.testing.assert_allclose(encode(boxes, targets), GOLDEN[f"encode_{name}"], rtol=1e-5, atol=1e-5)
    decoded = decode(GOLDEN["deltas"], boxes[:, None])
    np.testing.assert_allclose(decoded, GOLDEN[f"decode_{name}"], rtol=1e-5, atol=1e-3)


def test_decoding_inverts_encoding():
    rng = np.random.default_rng(2)
    boxes, targets = random_boxes(rng, 50), random_boxes(rng, 50)
    deltas = jitted(ops.encode_boxes, WEIGHTS["box"])(boxes, targets)
    for clamp in ("max", "both"):
        decoded = jitted(ops.decode_boxes, WEIGHTS["box"], clamp)(deltas, boxes)
        # A side may not grow more than 62.5 times; these sides are 2 to 60 pixels.
        np.testing.assert_allclose(decoded, targets, atol=1e-3)


def test_clamp_limits_one_or_both_directions():
    box = jnp.array([0.0, 0.0, 16.0, 16.0])
    deltas = jnp.array([[0.0, 0.0, 9.0, -9.0]])
    for clamp, height in (("max", 16 * np.exp(-9.0)), ("both", 16 * 16 / 1000)):
        x1, y1, x2, y2 = np.asarray(jitted(ops.decode_boxes, (1, 1, 1, 1), clamp)(deltas, box))[0]
        np.testing.assert_allclose(x2 - x1, 1000, rtol=1e-5)
        np.testing.assert_allclose(y2 - y1, height, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="clamp"):
        ops.decode_boxes(deltas, box, (1, 1, 1, 1), "min")


def test_coder_is_finite_for_padding():
    zero, real = np.zeros(4, np.float32), np.float32([1, 2, 30, 40])
    encode = jax.value_and_grad(lambda b, t: (ops.encode_boxes(b, t, (10, 10, 5, 5)) ** 2).sum(), (0, 1))
    encode = jax.jit(encode)
    for boxes, targets in ((zero, zero), (zero, real), (real, zero)):
        value, grads = encode(boxes, targets)
        assert np.isfinite(value) and np.isfinite(grads).all()
    decode = jax.jit(jax.grad(lambda d, b: ops.decode_boxes(d, b, (1, 1, 1, 1)).sum(), (0, 1)))
    for box in (zero, real):
        grad = decode(np.float32([3, -100, 100, -100]), box)
        assert np.isfinite(grad[0]).all() and np.isfinite(grad[1]).all()


def test_coder_gradients():
    rng = np.random.default_rng(3)
    boxes, targets = random_boxes(rng, 3), random_boxes(rng, 3)
    deltas = rng.normal(0, 0.3, (3, 4)).astype(np.float32)
    # "rev" is what training uses
    decode = jax.jit(lambda d: ops.decode_boxes(d, boxes, (1, 1, 1, 1)))
    encode = jax.jit(lambda t: ops.encode_boxes(boxes, t, (1, 1, 1, 1)))
    check_grads(decode, (deltas,), 1, ["rev"], atol=0.05, rtol=0.02)
    check_grads(encode, (targets,), 1, ["rev"], atol=0.02, rtol=0.02)


def test_clipping_equals_torchvision_with_a_traced_size():
    clip = jax.jit(ops.clip_boxes)
    np.testing.assert_array_equal(clip(GOLDEN["iou_a"], jnp.array([70, 90])), GOLDEN["clip"])
    np.testing.assert_array_equal(clip(GOLDEN["iou_a"], (70.0, 90.0)), GOLDEN["clip"])


def test_all_of_it_under_vmap():
    rng = np.random.default_rng(4)
    a, b = (np.stack([random_boxes(rng, 5), random_boxes(rng, 5)]) for _ in range(2))
    for f in (
        ops.box_iou,
        ops.box_iof,
        lambda x, y: ops.encode_boxes(x, y, (1, 1, 1, 1)),
        lambda x, y: ops.decode_boxes(x / 100, y, (1, 1, 1, 1), "both"),
    ):
        np.testing.assert_allclose(
            jax.jit(jax.vmap(f))(a, b),
            np.stack([jax.jit(f)(a[i], b[i]) for i in range(2)]),
            rtol=1e-5,
            atol=1e-5,
        )
    sizes = jnp.array([[50, 60], [30, 20]])
    clipped = jax.vmap(ops.clip_boxes)(a, sizes)
    np.testing.assert_array_equal(clipped[1], ops.clip_boxes(a[1], (30, 20)))


def test_generalised_iou_beside_an_oracle():
    """Of boxes that overlap, touch, are apart, are one inside of the other, and have no area."""
    a = np.float32([[0, 0, 4, 4], [0, 0, 2, 2], [0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 5], [0, 0, 4, 4]])
    b = np.float32([[2, 1, 6, 5], [2, 0, 4, 2], [6, 8, 9, 9], [0, 0, 4, 4], [5, 5, 5, 5], [0, 0, 4, 4]])
    for one, two, found in zip(a, b, np.asarray(jax.jit(generalised_iou)(a, b)), strict=True):
        overlap = max(min(one[2], two[2]) - max(one[0], two[0]), 0) * max(
            min(one[3], two[3]) - max(one[1], two[1]), 0
        )
        union = (one[2] - one[0]) * (one[3] - one[1]) + (two[2] - two[0]) * (two[3] - two[1]) - overlap
        around = (max(one[2], two[2]) - min(one[0], two[0])) * (max(one[3], two[3]) - min(one[1], two[1]))
        expected = overlap / union - (around - union) / around if around else 0
        np.testing.assert_allclose(found, expected, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda a: generalised_iou(a, b).sum()))(a)
    assert np.isfinite(gradient).all() and (np.abs(gradient[2]).sum() > 0)
