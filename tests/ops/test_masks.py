"""Mask packing, targets and pasting, against loops and against torchvision."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops.masks import targets
from jaxmaskrcnn.ops.roi_align import reference, tiles_batched
from jaxmaskrcnn.ops.roi_align.axis import axis_samples

GOLDEN = np.load(GOLDENS / "torchvision_ops_masks.npz")
MASKS = GOLDEN["masks"]
HEIGHT, WIDTH = MASKS.shape[1:]
PACKED = ops.pack_masks(MASKS)
TARGETS = jax.jit(ops.mask_targets, static_argnames=("width", "size", "rule"))
PASTE = jax.jit(ops.paste_masks, static_argnames=("image_size", "convention"))
CONVENTIONS = ("torchvision", "detectron2")


def tent(position, cells):
    """A row of bilinear weights, zero outside."""
    return [max(0.0, 1 - abs(position - k)) for k in range(cells)]


def paste_loop(prob, box, image_size, convention):
    """Either convention, pixel by pixel, in float64."""
    cells = len(prob)
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    out = np.zeros(image_size)
    if convention == "torchvision":
        padded = np.pad(prob, 1)
        scale = (cells + 2) / cells
        x1, x2 = ((x1 + x2) / 2 + s * (x2 - x1) / 2 * scale for s in (-1, 1))
        y1, y2 = ((y1 + y2) / 2 + s * (y2 - y1) / 2 * scale for s in (-1, 1))
        x1, y1, x2, y2 = (math.trunc(v) for v in (x1, y1, x2, y2))
        w, h = x2 - x1 + 1, y2 - y1 + 1
    for y in range(image_size[0]):
        for x in range(image_size[1]):
            if convention == "torchvision":
                if not (y1 <= y <= y2 and x1 <= x <= x2):
                    continue
                v = min(max((y - y1 + 0.5) * (cells + 2) / h - 0.5, 0), cells + 1)
                u = min(max((x - x1 + 0.5) * (cells + 2) / w - 0.5, 0), cells + 1)
                out[y, x] = np.array(tent(v, cells + 2)) @ padded @ np.array(tent(u, cells + 2))
            else:
                v = (y + 0.5 - y1) / (y2 - y1) * cells - 0.5
                u = (x + 0.5 - x1) / (x2 - x1) * cells - 0.5
                out[y, x] = np.array(tent(v, cells)) @ prob @ np.array(tent(u, cells))
    return out


@pytest.mark.parametrize("width", [1, 7, 8, 9, 53])
def test_packing_round_trips(width):
    masks = np.random.default_rng(width).random((2, 3, 5, width)) < 0.5
    packed = ops.pack_masks(masks)
    assert packed.dtype == np.uint8 and packed.shape == (2, 3, 5, -(-width // 8))
    np.testing.assert_array_equal(jax.jit(ops.unpack_masks, static_argnums=1)(packed, width), masks)


def test_the_leftmost_pixel_is_the_highest_bit():
    assert ops.pack_masks(np.array([[True] + [False] * 8])).tolist() == [[128, 0]]


def test_soft_targets_equal_torchvision():
    targets = TARGETS(PACKED, WIDTH, GOLDEN["target_index"], GOLDEN["target_boxes"], 14, rule="soft")
    np.testing.assert_allclose(targets, GOLDEN["targets_soft"], atol=1e-5)
    assert ((targets > 0.01) & (targets < 0.99)).any()


def test_threshold_targets_equal_the_aligned_crop_at_a_half():
    recorded = GOLDEN["targets_aligned"]
    targets = np.asarray(
        TARGETS(PACKED, WIDTH, GOLDEN["target_index"], GOLDEN["target_boxes"], 14, rule="threshold")
    )
    clear = abs(recorded - 0.5) > 1e-5  # a sum that is a half up to rounding may go either way
    assert clear.mean() > 0.9
    assert set(np.unique(targets)) == {0, 1}
    np.testing.assert_array_equal(targets[clear], (recorded >= 0.5)[clear])


def test_a_half_is_foreground():
    mask = np.array([[[True, False]]])
    boxes = np.array([[0.5, 0, 1.5, 1]], np.float32)  # one sample, between the two pixels
    target = TARGETS(ops.pack_masks(mask), 2, np.zeros(1, int), boxes, 1, rule="threshold")
    assert target[0, 0, 0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["soft", "threshold"])
def test_targets_do_not_depend_on_the_canvas(rule):
    canvas = ops.pack_masks(np.pad(MASKS, ((0, 2), (0, 20), (0, 11))))
    boxes, index = GOLDEN["target_boxes"], GOLDEN["target_index"]
    targets = jax.jit(
        lambda size: ops.mask_targets(canvas, WIDTH + 11, index, boxes, 14, rule=rule, image_size=size)
    )(jnp.array([HEIGHT, WIDTH]))
    plain = TARGETS(PACKED, WIDTH, index, boxes, 14, rule=rule)
    np.testing.assert_allclose(targets, plain, atol=1e-6)
    # The image's border is at stake: a box that reaches it sees the canvas otherwise.
    unaware = TARGETS(canvas, WIDTH + 11, index, boxes, 14, rule="soft")
    assert abs(unaware - GOLDEN["targets_soft"]).max() > 0.1


LIMITED = {
    # Five masks at a time, and three tiles.
    "whole": dict(chunk_pixels=5 * HEIGHT * WIDTH),
    "tiles_batched": dict(batch_bytes=4 * tiles_batched.BITS_TILE**2 * 3),
}


@pytest.mark.slow_except("tiles_batched")
@pytest.mark.parametrize("implementation", LIMITED)
def test_targets_under_vmap_in_chunks_and_of_padding(implementation):
    rng = np.random.default_rng(0)
    packed = np.stack([PACKED, PACKED[::-1]])
    boxes = np.concatenate([GOLDEN["target_boxes"], np.zeros((3, 4), np.float32)])
    boxes = np.stack([boxes, rng.permutation(boxes)])
    index = rng.integers(0, 4, (2, len(boxes[0])))
    crop = functools.partial(targets.IMPLEMENTATIONS[implementation], 7, WIDTH, **LIMITED[implementation])

    def crop_image(packed, index, boxes):
        y, x = (axis_samples(boxes[:, i], boxes[:, i + 2], 7, 0, aligned=False) for i in (1, 0))
        extents = (jnp.full(len(index), float(HEIGHT)), jnp.full(len(index), float(WIDTH)))
        return crop(packed, index, y, x, extents)

    batch = jax.jit(jax.vmap(crop_image))(packed, index, boxes)
    assert np.isfinite(batch).all()
    for i in range(2):
        one = TARGETS(packed[i], WIDTH, index[i], boxes[i], 7, rule="soft")
        np.testing.assert_allclose(batch[i], one, atol=1e-6)
    none = TARGETS(PACKED, WIDTH, np.zeros(0, int), np.zeros((0, 4)), 7, rule="soft")
    assert none.shape == (0, 7, 7)


QUICK = {("soft", "tiles_cpu"), ("threshold", "whole")}  # each of both once; the others with the slow tests


@pytest.mark.slow_except("threshold-whole")
@pytest.mark.parametrize(
    ("rule", "implementation"),
    [
        pytest.param(rule, name, marks=() if (rule, name) in QUICK else pytest.mark.slow)
        for name in targets.IMPLEMENTATIONS
        for rule in ("soft", "threshold")
    ],
)
def test_targets_equal_the_definition_of_roi_align(rule, implementation):
    rng = np.random.default_rng(3)
    masks = rng.random((2, 3, 150, 203)) < 0.5
    corner = rng.uniform(-20, 150, (2, 20, 2))
    boxes = np.concatenate([corner, corner + np.exp(rng.uniform(0, 5.3, (2, 20, 2)))], -1).astype(np.float32)
    boxes[:, 0], boxes[:, 1], boxes[0, 2] = (0, 0, 203, 150), (130, 20, 203.5, 149), np.nan
    index, sizes = rng.integers(0, 3, (2, 20)), np.array([[150, 203], [120, 180]])

    def crop(packed, index, boxes, size):
        return ops.mask_targets(
            packed, 203, index, boxes, 9, rule=rule, image_size=size, implementation=implementation
        )

    arguments = ops.pack_masks(masks), index, boxes, sizes
    batch = np.asarray(jax.jit(jax.vmap(crop))(*arguments))
    one = jax.jit(crop)(*(x[1] for x in arguments))
    expected = np.stack(
        [
            reference.multilevel_roi_align(
                masks[i, ..., None].astype(np.float32), boxes[i], index[i], 9, spatial_scales=np.ones(3),
                sampling_ratio=0, aligned=rule == "threshold", feature_sizes=[sizes[i]] * 3,
            )[..., 0]
            for i in range(2)
        ]
    )  # fmt: skip
    assert (expected.std((2, 3)) > 0.01).sum() > 25
    if rule == "threshold":  # a sum that is a half up to rounding may go either way
        assert (batch != (expected >= 0.5)).mean() < 0.01
        np.testing.assert_array_equal(batch[1], one)
    else:
        np.testing.assert_allclose(batch, expected, atol=2e-6)
        np.testing.assert_allclose(batch[1], one, atol=1e-6)


def test_targets_of_many_regions_fit_into_memory():
    packed = jnp.zeros((20, 800, 168), jnp.uint8)
    index, boxes = jnp.zeros(128, int), jnp.zeros((128, 4))
    lowered = jax.jit(lambda *a: ops.mask_targets(a[0], 1344, a[1], a[2], 28, rule="soft")).lower(
        packed, index, boxes
    )
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 100e6  # all masks: 550 MB


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pasting_equals_torch(convention):
    boxes = GOLDEN["paste_boxes"]
    pasted = np.asarray(PASTE(GOLDEN["probs"], boxes, (HEIGHT, WIDTH), convention=convention))
    recorded = GOLDEN[f"paste_{convention}"]
    sized = boxes[:, 2] > boxes[:, 0]
    np.testing.assert_allclose(pasted[sized], recorded[sized], atol=2e-5)
    if convention == "torchvision":  # pastes one pixel of a box without size
        np.testing.assert_allclose(pasted, recorded, atol=2e-5)
    else:
        assert (~sized).any() and not pasted[~sized].any()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pasting_equals_a_loop(convention):
    rng = np.random.default_rng(1)
    corner = rng.uniform(-8, 15, (6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 15, (6, 2))], axis=1).astype(np.float32)
    probs = rng.random((6, 5, 5)).astype(np.float32)
    pasted = PASTE(probs, boxes, (14, 17), convention=convention)
    expected = np.stack([paste_loop(p, b, (14, 17), convention) for p, b in zip(probs, boxes, strict=True)])
    assert (expected > 0).any(axis=(1, 2)).sum() >= 4
    np.testing.assert_allclose(pasted, expected, atol=2e-5)


@pytest.mark.slow_except("eager-torchvision")
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_window_on_the_host_equals_pasting(convention, transform):
    rng = np.random.default_rng(2)
    size = (37, 45)
    # Even sides about whole centres put the enlarged edges of a 14-cell mask close to whole pixels;
    # with a fused multiply-add, the edge at 25 of the first special box would be at 24.
    centre, half = rng.integers(-5, 45, (60, 2)), rng.integers(0, 22, (60, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    boxes[30:] += rng.uniform(-1, 1, (30, 4)).astype(np.float32)
    special = [
        [60, 60, 550, 550],
        [-90, -90, -40, -40],
        [100, 5, 130, 9],
        [-500, -400, 600, 700],
        [5, 5, 3, 2],
        [9, 9, 9, 30],
    ]
    boxes = np.concatenate([boxes, np.array([*special, [np.nan] * 4], np.float32)])
    probs = rng.random((len(boxes), 14, 14)).astype(np.float32)
    pasted = transform(lambda p, b: ops.paste_masks(p, b, size, convention=convention))(probs, boxes)
    for prob, box, full in zip(probs, boxes, np.asarray(pasted), strict=True):
        window, (y, x) = ops.paste_mask_window(prob, box, size, convention=convention)
        assert window.dtype == np.float32
        expected = np.zeros(size, np.float32)
        expected[y : y + window.shape[0], x : x + window.shape[1]] = window
        assert expected[y : y + window.shape[0], x : x + window.shape[1]].shape == window.shape
        np.testing.assert_allclose(full, expected, atol=1e-5)


def test_a_full_mask_fills_its_box():
    ones = np.ones((1, 28, 28), np.float32)
    box = np.array([[10, 8, 38, 36]], np.float32)
    for convention in CONVENTIONS:
        pasted = np.asarray(PASTE(ones, box, (50, 60), convention=convention))[0] >= 0.5
        expected = np.zeros((50, 60), bool)
        # torchvision counts both ends of the whole-pixel box, so it covers one pixel more.
        expected[8:37, 10:39] = True
        if convention == "detectron2":
            expected[36], expected[:, 38] = False, False
        np.testing.assert_array_equal(pasted, expected)


def test_pasting_has_finite_gradients_and_a_vmap():
    probs = jnp.ones((2, 3, 5, 5))
    boxes = jnp.stack([jnp.array([[0.0, 0, 0, 0], [1, 2, 8, 9], [3, 3, 3, 7]])] * 2)
    for convention in CONVENTIONS:

        def total(p, b, convention=convention):
            return jax.vmap(lambda p, b: ops.paste_masks(p, b, (9, 9), convention=convention))(p, b).sum()

        grads = jax.jit(jax.grad(total, argnums=(0, 1)))(probs, boxes)
        assert np.isfinite(grads[0]).all() and np.isfinite(grads[1]).all()
        assert grads[0][:, 1].any()


def test_rules_of_pasting_have_the_names_of_libraries_too():
    args = np.ones((1, 4, 4), np.float32), np.array([[1.3, 2, 7.6, 9]], np.float32), (11, 12)
    pasted = []
    for rule, library in (("whole_pixels", "torchvision"), ("grid_sample", "detectron2")):
        pasted.append(np.asarray(PASTE(*args, convention=rule)))
        np.testing.assert_array_equal(pasted[-1], PASTE(*args, convention=library))
        (window, corner), (other, other_corner) = (
            ops.paste_mask_window(args[0][0], args[1][0], args[2], convention=name)
            for name in (rule, library)
        )
        np.testing.assert_array_equal(window, other)
        assert corner == other_corner
    assert not np.allclose(*pasted)
    np.testing.assert_array_equal(pasted[0], PASTE(*args))


def test_wrong_names_are_named():
    with pytest.raises(ValueError, match="'hard'"):
        TARGETS(PACKED, WIDTH, np.zeros(1, int), np.zeros((1, 4)), 7, rule="hard")
    with pytest.raises(ValueError, match='\'tiles\'; choose "tiles_cpu", "tiles_batched", "whole" or None'):
        ops.mask_targets(
            PACKED, WIDTH, np.zeros(1, int), np.zeros((1, 4)), 7, rule="soft", implementation="tiles"
        )
    for paste in (
        lambda: ops.paste_masks(np.ones((1, 4, 4)), np.ones((1, 4)), (5, 5), convention="coco"),
        lambda: ops.paste_mask_window(np.ones((4, 4)), np.ones(4), (5, 5), convention="coco"),
    ):
        with pytest.raises(ValueError, match="'coco'; choose one of whole_pixels, grid_sample"):
            paste()
