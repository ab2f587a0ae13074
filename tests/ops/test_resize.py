"""Resizing, against torchvision's recorded results and scalar versions of the integer kernels."""

import math

import numpy as np
import pytest
from folders import GOLDENS

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.preprocess import make_batch, resize_for
from jaxmaskrcnn.ops.masks import unpack_masks
from jaxmaskrcnn.ops.resize import nearest_index, output_size, resize_image, resize_mask

GOLDEN = np.load(GOLDENS / "resize.npz")
CASES = range(5)


def scalar_cv2(image, size):
    """INTER_LINEAR of OpenCV on uint8, one output pixel at a time."""
    height, width, channels = image.shape

    def taps(position, length, clamp):
        position = np.float32(position)
        low = math.floor(position)
        weight = np.float32(position - np.float32(low))
        if clamp and (low < 0 or low >= length - 1):
            low, weight = min(max(low, 0), length - 1), np.float32(0)
        pair = int(np.rint((np.float32(1) - weight) * 2048)), int(np.rint(weight * np.float32(2048)))
        return min(max(low, 0), length - 1), min(max(low + 1, 0), length - 1), pair

    out = np.zeros((*size, channels), np.uint8)
    for i in range(size[0]):
        top, bottom, (a, b) = taps((i + 0.5) * (height / size[0]) - 0.5, height, False)
        for j in range(size[1]):
            left, right, (c, d) = taps((j + 0.5) * (width / size[1]) - 0.5, width, True)
            for k in range(channels):
                upper = int(image[top, left, k]) * c + int(image[top, right, k]) * d
                lower = int(image[bottom, left, k]) * c + int(image[bottom, right, k]) * d
                value = ((a * (upper >> 4)) >> 16) + ((b * (lower >> 4)) >> 16)
                out[i, j, k] = min(max((value + 2) >> 2, 0), 255)
    return out


def scalar_triangle(line, length):
    """One line through Pillow's antialiased triangle filter, in 22-bit fixed point."""
    scale = len(line) / length
    support = max(scale, 1.0)
    out = []
    for i in range(length):
        centre = (i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), len(line))
        weights = [max(0.0, 1 - abs((x - centre + 0.5) / support)) for x in range(low, high)]
        fixed = [int(0.5 + w / sum(weights) * (1 << 22)) for w in weights]
        total = sum(int(v) * w for v, w in zip(line[low:high], fixed, strict=True)) + (1 << 21)
        out.append(min(max(total >> 22, 0), 255))
    return out


@pytest.mark.parametrize("case", CASES)
def test_torch_kernel_equals_torchvision(case):
    low, high = GOLDEN[f"limits_{case}"]
    image = GOLDEN[f"image_{case}"]
    size = output_size(*image.shape[:2], int(low), int(high), "truncate")
    assert size == tuple(GOLDEN[f"size_{case}"])
    resized = resize_for(ModelConfig(), image, size)
    assert resized.dtype == np.float32
    expected = GOLDEN[f"padded_{case}"][: size[0], : size[1]]
    np.testing.assert_allclose(resized, expected, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_make_batch_equals_torchvision(case):
    low, high = map(int, GOLDEN[f"limits_{case}"])
    config = ModelConfig(num_classes=2).replace({"input.test_min_size": low, "input.test_max_size": high})
    target = {key: GOLDEN[f"{key}_{case}"] for key in ("boxes", "masks")} | {"labels": np.array([0, 1])}
    batch = make_batch(config, [GOLDEN[f"image_{case}"]], [target])
    expected = GOLDEN[f"padded_{case}"]
    assert batch.images.shape[1:] == expected.shape
    np.testing.assert_allclose(batch.images[0], expected, atol=1e-5)
    np.testing.assert_array_equal(batch.targets.boxes[0], GOLDEN[f"new_boxes_{case}"])
    height, width = GOLDEN[f"size_{case}"]
    masks = np.asarray(unpack_masks(batch.targets.masks[0], expected.shape[1])).astype(bool)
    np.testing.assert_array_equal(masks[:, :height, :width], GOLDEN[f"new_masks_{case}"])
    assert not masks[:, height:].any() and not masks[:, :, width:].any()


def test_sizes_equal_torchvision():
    for (height, width), expected in zip(GOLDEN["sizes"], GOLDEN["new_sizes"], strict=True):
        assert output_size(int(height), int(width), 800, 1333, "truncate") == tuple(expected)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("truncate", [(800, 1066), (749, 1333), (799, 1327)]),
        ("round_two_steps", [(800, 1067), (750, 1333), (800, 1328)]),
        ("round", [(800, 1067), (750, 1333), (800, 1328)]),
    ],
)
def test_size_rules(rule, expected):
    sizes = [(480, 640), (1080, 1920), (97, 161)]
    assert [output_size(h, w, 800, 1333, rule) for h, w in sizes] == expected
    assert [output_size(w, h, 800, 1333, rule) for h, w in sizes] == [e[::-1] for e in expected]


def test_one_scale_and_two_scales_round_differently():
    assert output_size(11, 62, 800, 1333, "round") == (237, 1333)
    assert output_size(11, 62, 800, 1333, "round_two_steps") == (236, 1333)


def test_size_rules_never_reach_zero_and_reject_unknown_names():
    assert output_size(1, 5000, 800, 1333, "truncate") == (1, 1333)
    with pytest.raises(
        ValueError, match="'mmdet' is unknown; choose one of truncate, round, round_two_steps"
    ):
        output_size(4, 4, 8, 8, "mmdet")


@pytest.mark.parametrize("shape", [(7, 9, 11, 13), (12, 10, 5, 4), (6, 8, 3, 4), (5, 5, 5, 9), (1, 6, 2, 12)])
def test_cv2_kernel_equals_its_scalar_definition(shape):
    image = np.random.default_rng(sum(shape)).integers(0, 256, (*shape[:2], 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_image(image, shape[2:], "cv2"), scalar_cv2(image, shape[2:]))


@pytest.mark.parametrize("shape", [(8, 12, 20, 30), (24, 36, 10, 15)])
def test_pil_kernel_equals_its_scalar_definition(shape):
    image = np.random.default_rng(3).integers(0, 256, (*shape[:2], 3), dtype=np.uint8)
    rows = np.stack([[scalar_triangle(r[:, k], shape[3]) for k in range(3)] for r in image]).transpose(
        0, 2, 1
    )
    columns = [[scalar_triangle(rows[:, j, k], shape[2]) for k in range(3)] for j in range(shape[3])]
    expected = np.array(columns).transpose(2, 0, 1)
    np.testing.assert_array_equal(resize_image(image, shape[2:], "pil"), expected)


def test_kernels_keep_an_image_of_the_right_size():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for kernel in ("torch", "pil", "cv2"):
        resized = resize_image(image, (9, 7), kernel)
        np.testing.assert_array_equal(resized, image)
        assert not np.shares_memory(resized, image)


def test_integer_kernels_reject_floats_and_unknown_names():
    with pytest.raises(TypeError, match="'pil' kernel resizes uint8"):
        resize_image(np.zeros((4, 4, 3), np.float32), (8, 8), "pil")
    with pytest.raises(ValueError, match="'area' is unknown"):
        resize_image(np.zeros((4, 4, 3), np.uint8), (8, 8), "area")
    with pytest.raises(ValueError, match="'area' is unknown"):
        nearest_index(4, 8, "area")


@pytest.mark.parametrize("lengths", [(427, 800), (640, 1199), (1000, 333), (7, 7), (3, 1)])
def test_nearest_rules(lengths):
    length, new = lengths
    scale = np.float32(length) / np.float32(new)
    torch = [min(int(np.floor(np.float32(i) * scale)), length - 1) for i in range(new)]
    np.testing.assert_array_equal(nearest_index(length, new, "torch"), torch)
    cv2 = [min(math.floor(i * (1 / (new / length))), length - 1) for i in range(new)]
    np.testing.assert_array_equal(nearest_index(length, new, "cv2"), cv2)
    # Pillow's accumulated step may differ from the exact centre by one index at a tie, not more.
    centre = np.floor((np.arange(new) + 0.5) * length / new)
    assert np.abs(nearest_index(length, new, "pil") - centre).max() <= 1
    assert (nearest_index(length, new, "pil") == centre).mean() > 0.9


def test_nearest_rules_differ_where_they_should():
    assert nearest_index(4, 2, "torch").tolist() == [0, 2]
    assert nearest_index(4, 2, "pil").tolist() == [1, 3]


def test_resize_mask_takes_pixels_by_rows_and_columns():
    mask = np.random.default_rng(1).random((2, 5, 6)) < 0.5
    resized = resize_mask(mask, (7, 4), "torch")
    rows, columns = nearest_index(5, 7, "torch"), nearest_index(6, 4, "torch")
    assert resized.dtype == bool and resized.shape == (2, 7, 4)
    np.testing.assert_array_equal(resized, mask[:, rows][:, :, columns])
