"""Pictures in arrays of other types and shapes than uint8 RGB."""

import numpy as np
import pytest

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.array_pixels import pixel_array
from jaxmaskrcnn.errors import UserError


def test_every_shape_and_type_of_one_grey_picture():
    grey = np.array([[0, 51], [102, 255]], np.uint8)
    expected = np.stack([grey] * 3, 2)
    assert pixel_array(expected, PixelConfig(), "it") is expected
    for array in (grey, grey[..., None], np.stack([grey, grey, grey, 255 - grey], 2)):
        for scaled in (array, array.astype(np.uint16) * 257, array / 255, (array / 255).astype(np.float16)):
            found = pixel_array(scaled, PixelConfig(), "it")
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, expected)


def test_a_range_gives_other_types_a_meaning():
    pixels = PixelConfig(intensity="range", intensity_range=(-1, 1))
    assert pixel_array(np.array([[-1, 1]]), pixels, "it")[..., 0].tolist() == [[0, 255]]
    assert pixel_array(np.array([[-1.0, np.nan, 2.0]]), pixels, "it")[..., 0].tolist() == [[0, 0, 255]]
    # A uint8 picture is taken as it is, as from a file.
    assert pixel_array(np.uint8([[3]]), pixels, "it").tolist() == [[[3, 3, 3]]]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            np.zeros((3, 8, 9), np.uint8),
            r"^it is an array of uint8 with the shape \[3, 8, 9\].*channels last",
        ),
        (np.zeros((8, 9, 2), np.uint8), r"shape \[8, 9, 2\]; give \[height, width\] or"),
        (np.zeros((2, 8, 9, 3), np.uint8), "give several images as a list of arrays"),
        (np.zeros((0, 9), np.uint8), r"shape \[0, 9\]"),
        (np.zeros((8, 9), bool), "array of bool .* give numbers"),
        (np.zeros((8, 9), np.int64), "a type without a known range; convert it to uint8 or uint16"),
        (np.full((8, 9), 1.5), "values 1.5 to 1.5; divide it so that white is 1"),
        (np.full((8, 9), -0.5), "values -0.5 to -0.5"),
        (np.full((8, 9), np.nan), "values nan to nan"),
    ],
)
def test_arrays_without_a_meaning_are_named(array, words):
    with pytest.raises(UserError, match=words):
        pixel_array(array, PixelConfig(), "it")
