"""make_batch and the normalisation on the device."""

import jax
import numpy as np
import pytest
from data_helpers import encode, rectangles

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.fields.masks import Masks
from jaxmaskrcnn.data.fields.targets import empty_targets
from jaxmaskrcnn.data.preprocess import make_batch, resize_for
from jaxmaskrcnn.data.transforms import Geometry, clip_boxes, flip_boxes, round_up, scale_boxes
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.inputs import normalise
from jaxmaskrcnn.ops.masks import pack_masks, unpack_masks
from jaxmaskrcnn.ops.resize import output_size, resize_image, resize_mask

SMALL = {"num_classes": 3, "input.test_min_size": 40, "input.test_max_size": 60, "input.pad_divisor": 16}
CONFIGS = {
    "torchvision": ModelConfig().replace(SMALL),
    "detectron2": ModelConfig()
    .replace(SMALL)
    .replace(
        {
            "input.channel_order": "bgr",
            "input.pixel_scale": 1.0,
            "input.pixel_mean": (103.53, 116.28, 123.675),
            "input.pixel_std": (1.0, 1.0, 1.0),
            "input.normalise_before_resize": False,
            "input.resize_kernel": "pil",
            "input.size_rule": "round_two_steps",
        }
    ),
    "mmdet": ModelConfig()
    .replace(SMALL)
    .replace(
        {
            "input.pixel_scale": 1.0,
            "input.pixel_mean": (123.675, 116.28, 103.53),
            "input.pixel_std": (58.395, 57.12, 57.375),
            "input.normalise_before_resize": False,
            "input.resize_kernel": "cv2",
            "input.size_rule": "round",
        }
    ),
}


def images_and_targets(sizes=((30, 50), (47, 33)), counts=(3, 1), seed=0):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]
    targets = []
    for (height, width), count in zip(sizes, counts, strict=True):
        masks, boxes = rectangles(rng, count, height, width)
        targets.append({"boxes": boxes, "labels": rng.integers(0, 3, count), "masks": masks})
    return images, targets


@pytest.mark.parametrize("name", CONFIGS)
def test_batch_has_the_presets_sizes_and_values(name):
    config = CONFIGS[name]
    images, targets = images_and_targets()
    batch = make_batch(config, images, targets)
    sizes = [output_size(*image.shape[:2], 40, 60, config.input.size_rule) for image in images]
    canvas = tuple(-(-max(side) // 16) * 16 for side in zip(*sizes, strict=True))
    assert batch.images.shape == (2, *canvas, 3) and batch.images.dtype == np.float32
    assert batch.image_sizes.tolist() == [list(s) for s in sizes]
    assert batch.extents.tolist() == [list(canvas)] * 2
    assert batch.original_sizes.tolist() == [[30, 50], [47, 33]]
    assert batch.index.tolist() == [-1, -1] and batch.valid.all()
    order = slice(None, None, -1) if config.input.channel_order == "bgr" else slice(None)
    for pixels, image, size in zip(batch.images, images, sizes, strict=True):
        resized = resize_image(image, size, config.input.resize_kernel)[..., order]
        expected = (resized * config.input.pixel_scale - config.input.pixel_mean) / np.array(
            config.input.pixel_std
        )
        # torchvision normalises first, which for a linear resize is the same up to rounding
        np.testing.assert_allclose(pixels[: size[0], : size[1]], expected, atol=1e-4)
        assert not pixels[size[0] :].any() and not pixels[:, size[1] :].any()


@pytest.mark.parametrize("name", CONFIGS)
def test_batch_has_scaled_boxes_and_packed_masks(name):
    config = CONFIGS[name]
    images, targets = images_and_targets()
    batch = make_batch(config, images, targets)
    out = batch.targets
    assert out.boxes.shape == (2, 3, 4) and out.valid.tolist() == [[True] * 3, [True, False, False]]
    assert out.masks.shape == (2, 3, batch.images.shape[1], batch.images.shape[2] // 8)
    assert not out.crowd.any()
    for i, target in enumerate(targets):
        count, size = len(target["labels"]), batch.image_sizes[i]
        ratio = size.astype(np.float32) / np.array(images[i].shape[:2], np.float32)
        np.testing.assert_array_equal(out.boxes[i, :count], target["boxes"] * ratio[[1, 0, 1, 0]])
        np.testing.assert_array_equal(out.labels[i, :count], target["labels"])
        masks = np.asarray(unpack_masks(out.masks[i], batch.images.shape[2])).astype(bool)
        expected = resize_mask(target["masks"], tuple(size), config.input.resize_kernel)
        np.testing.assert_array_equal(masks[:count, : size[0], : size[1]], expected)
        assert masks.sum() == expected.sum()


def test_batch_is_a_tree_of_arrays_that_jit_takes():
    images, targets = images_and_targets()
    batch = make_batch(CONFIGS["torchvision"], images, targets)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(batch))
    assert jax.jit(lambda b: b.targets.valid.sum() + b.valid.sum())(batch) == 6


def test_without_targets_without_masks_and_with_fixed_slots():
    images, targets = images_and_targets(counts=(0, 2))
    assert make_batch(CONFIGS["mmdet"], images).targets is None
    assert make_batch(CONFIGS["mmdet"], images, targets, max_objects=5).targets.boxes.shape == (2, 5, 4)
    boxes_only = ModelConfig().replace(SMALL).replace({"mask": None})
    for target in targets:
        del target["masks"]
    assert make_batch(boxes_only, images, targets).targets.masks is None
    empty = {"boxes": [], "labels": []}
    batch = make_batch(boxes_only, images, [empty, empty])
    assert batch.targets.boxes.shape == (2, 1, 4) and not batch.targets.valid.any()
    empty = {"boxes": [], "labels": [], "masks": []}
    assert not make_batch(CONFIGS["mmdet"], images, [empty, empty]).targets.masks.any()


def test_a_model_stands_for_its_config_and_crowd_is_kept():
    class Model:
        config = CONFIGS["detectron2"]

    images, targets = images_and_targets(counts=(2, 1))
    targets[0]["crowd"] = np.array([False, True])
    batch, same = make_batch(Model(), images, targets), make_batch(Model.config, images, targets)
    assert batch.targets.crowd.tolist() == [[False, True], [False, False]]
    jax.tree.map(np.testing.assert_array_equal, batch, same)


def change(i, **values):
    return lambda images, targets: targets[i].update(values)


def change_image(image):
    return lambda images, targets: images.__setitem__(1, image)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            change_image(np.full((5, 5, 3), 2.0)),
            r"images\[1\] is an array of float64 .* values 2 to 2; divide",
        ),
        (change_image(np.zeros((5, 5, 2), np.uint8)), r"images\[1\] is .* uint8 with the shape \[5, 5, 2\]"),
        (change_image(np.zeros((5, 0, 3), np.uint8)), r"images\[1\] is .* uint8 with the shape \[5, 0, 3\]"),
        (lambda images, targets: images.clear(), "no images"),
        (lambda images, targets: targets.pop(), "2 images came with 1 targets"),
        (lambda images, targets: targets[0].pop("masks"), "target of image 0 has no 'masks'"),
        (change(0, boxes=np.zeros((3, 5))), r"boxes \[3, 5\] for 3 labels; give \[3, 4\]"),
        (change(0, boxes=[[4, 4, 9, 9], [4, 4, 9, 9], [9, 4, 9, 9]]), r"box 2 of image 0 is \[9, 4, 9, 9\]"),
        (change(1, boxes=[[4, 4, np.nan, 9]]), "box 0 of image 1 is"),
        (change(1, boxes=[[4, 4, np.inf, 9]]), "box 0 of image 1 is"),
        (
            change(0, boxes=[[4, 4, 9, 9], [50, 4, 60, 9], [9, 4, 19, 9]]),
            r"box 1 of image 0 is \[50, 4, 60, 9\], outside of the image, which is 50 wide and 30 high",
        ),
        (change(1, boxes=[[4, 47, 9, 90]]), "box 0 of image 1 is .* outside of the image"),
        (change(1, boxes=[[-9, 4, 0, 9]]), "box 0 of image 1 is .* outside of the image"),
        (change(1, boxes=[[4, -9, 9, -1]]), "box 0 of image 1 is .* outside of the image"),
        (
            change(1, iscrowds=[True]),
            "image 1 has 'iscrowds', which is none of labels, crowd, polygons, masks, boxes",
        ),
        (change(0, iscrowd=[1, 0, 0]), "image 0 has 'iscrowd', which is none of"),
        (
            lambda images, targets: targets.__setitem__(1, [1, 2]),
            "the target of image 1 is a list; give a mapping",
        ),
        (change(0, labels=np.array([0, 3, 1])), "label 1 of image 0 is 3; the model's labels are 0 to 2"),
        (change(0, labels=np.array([0, 2, -1])), "label 2 of image 0 is -1"),
        (change(0, labels=np.array([0.0, 1, 2])), "float64 labels"),
        (change(1, masks=np.zeros((1, 33, 47), bool)), r"masks \[1, 33, 47\]; give bool \[1, 47, 33\]"),
        (change(1, masks=np.zeros((1, 47, 33))), "float64 masks"),
        (change(1, crowd=[True, False]), r"crowd \[2\]; give bool \[1\]"),
    ],
)
def test_wrong_input_is_named(spoil, words):
    images, targets = images_and_targets()
    spoil(images, targets)
    with pytest.raises(UserError, match=words):
        make_batch(CONFIGS["torchvision"], images, targets)


def test_boxes_that_reach_beyond_the_image():
    """As boxes of other tools do by rounding; the part inside of the image is one."""
    images, targets = images_and_targets()
    targets[1]["boxes"] = [[-3, -3, 90, 90]]
    assert make_batch(CONFIGS["torchvision"], images, targets).targets.valid[1, 0]


def test_too_many_objects_for_the_slots():
    images, targets = images_and_targets()
    with pytest.raises(UserError, match="an image has 3 objects but max_objects is 2"):
        make_batch(CONFIGS["torchvision"], images, targets, max_objects=2)


@pytest.mark.parametrize("name", ["detectron2", "mmdet"])
def test_the_device_normalises_like_the_host(name):
    config = CONFIGS[name]
    images, _ = images_and_targets()
    expected = make_batch(config, images)
    padded = np.full(expected.images.shape, 77, np.uint8)  # what lies outside must not matter
    for slot, image, (height, width) in zip(padded, images, expected.image_sizes, strict=True):
        slot[:height, :width] = resize_for(config, image, (height, width))
    normalised = jax.jit(lambda i, s: normalise(i, s, config))(padded, expected.image_sizes)
    np.testing.assert_allclose(normalised, expected.images, rtol=1e-6, atol=1e-5)
    outside = np.asarray(expected.images) == 0
    assert not np.asarray(normalised)[:, 40:][outside[:, 40:]].any()
    np.testing.assert_array_equal(normalise(expected.images, expected.image_sizes, config), expected.images)


@pytest.mark.parametrize("kernel", ["torch", "pil", "cv2"])
@pytest.mark.parametrize("flip", [False, True])
def test_packed_rles_equal_whole_masks(kernel, flip):
    model = ModelConfig().replace({"input.resize_kernel": kernel, "input.normalise_before_resize": False})
    rng = np.random.default_rng(5)
    for _ in range(20):
        height, width, h, w = rng.integers(5, 60, 4)
        masks = rng.random((6, height, width)) < 0.02
        masks[0] = False
        masks[1] = True
        masks[2:4] = rectangles(rng, 2, max(height, 12), max(width, 12))[0][:, :height, :width]
        counts = [encode(mask)["counts"].encode() for mask in masks]
        canvas = (h + 3, round_up(w, 16))
        expected = np.zeros((6, *canvas), bool)
        resized = resize_mask(masks, (h, w), kernel)
        expected[:, :h, :w] = resized[..., ::-1] if flip else resized
        geometry = Geometry.resize((height, width), (h, w), flip)
        targets = empty_targets(1, 6, canvas, {"masks": 1})
        Masks.read({"rle": counts}, (height, width)).transform(geometry, model).fill(targets, 0)
        np.testing.assert_array_equal(targets.masks[0], pack_masks(expected))


def test_box_geometry():
    boxes = np.array([[1, 2, 5, 8], [-3, 4, 90, 50]], np.float32)
    np.testing.assert_array_equal(flip_boxes(boxes, 20), [[15, 2, 19, 8], [-70, 4, 23, 50]])
    np.testing.assert_array_equal(flip_boxes(flip_boxes(boxes, 20), 20), boxes)
    np.testing.assert_array_equal(clip_boxes(boxes, (30, 40)), [[1, 2, 5, 8], [0, 4, 40, 30]])
    np.testing.assert_array_equal(scale_boxes(boxes[:1], (10, 20), (30, 20)), [[1, 6, 5, 24]])
    assert scale_boxes(np.zeros((0, 4)), (1, 1), (2, 2)).shape == (0, 4)
    assert [round_up(n, 32) for n in (1, 32, 33)] == [32, 32, 64] and round_up(33, 0) == 33
