"""The first layers of a ResNet as TPUs compute them, against the layers one by one and against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmaskrcnn.models.stem import folded, layer_by_layer, stem

SIZE = (24, 40)
EXTENTS = jnp.array([[24, 40], [17, 23]])


def some_arrays(dtype=np.float32, features=5):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *SIZE, 3))
    images[1, 17:] = images[1, :, 23:] = 0
    kernel, bias = rng.normal(size=(7, 7, 3, features)), rng.normal(size=features)
    return tuple(jnp.asarray(x, dtype) for x in (images, kernel, bias))


def oracle(images, kernel, bias, extents, border):
    """Pixel by pixel in NumPy; cells outside of an extent count as zero."""
    b, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    cells = np.zeros((b, height // 2, width // 2, kernel.shape[3]))
    for image, row, column in np.ndindex(cells.shape[:3]):
        if 2 * row < extents[image, 0] and 2 * column < extents[image, 1]:
            window = padded[image, 2 * row : 2 * row + 7, 2 * column : 2 * column + 7]
            cells[image, row, column] = np.maximum(np.einsum("hwc,hwcd->d", window, kernel) + bias, 0)
    before = border[0]
    y = np.empty((b, height // 4, width // 4, kernel.shape[3]))
    for row, column in np.ndindex(y.shape[1:3]):
        rows = slice(max(2 * row - before, 0), 2 * row - before + 3)
        columns = slice(max(2 * column - before, 0), 2 * column - before + 3)
        y[:, row, column] = cells[:, rows, columns].max((1, 2))
    return y


@pytest.mark.parametrize("border", [(1, 1), (0, 1)])
@pytest.mark.parametrize("way", [folded, layer_by_layer])
def test_results_are_those_of_loops(way, border):
    arrays = some_arrays()
    result = jax.jit(lambda x, k, b: way(x, k, b, EXTENTS, border))(*arrays)
    images, kernel, bias = (np.asarray(x, np.float64) for x in arrays)
    expected = oracle(images, kernel, bias, np.asarray(EXTENTS), border)
    np.testing.assert_allclose(result, expected, atol=2e-5)
    full = jax.jit(lambda x, k, b: way(x, k, b, None, border))(*arrays)
    np.testing.assert_allclose(full[0], expected[0], atol=2e-5)
    assert abs(full[1] - expected[1]).max() > 0.1


def test_folded_pixels_in_bfloat16_are_the_same_ones():
    """Nothing is rounded on the way: a kernel that picks one pixel finds it."""
    images, kernel, bias = some_arrays(jnp.bfloat16)
    kernel = jnp.zeros_like(kernel).at[2, 5, 1].set(1)
    result, expected = (way(images, kernel, 0 * bias, EXTENTS, (1, 1)) for way in (folded, layer_by_layer))
    assert result.dtype == jnp.bfloat16
    np.testing.assert_array_equal(result, expected)


def test_the_gradient_is_that_of_the_layers():
    *arrays, bias = some_arrays()

    def loss(way):
        def of(images, kernel, bias):
            return jnp.sin(way(images, kernel, bias, EXTENTS, (1, 1))).sum()

        return jax.jit(jax.grad(of, (0, 1, 2)))(*arrays, bias)

    for own, expected in zip(loss(stem), loss(layer_by_layer), strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(26, 40), (24, 39)])
def test_images_of_other_sizes_are_not_folded(size):
    _, kernel, bias = some_arrays()
    images = jnp.ones((1, *size, 3))
    lowered = jax.jit(lambda x: stem(x, kernel, bias, None)).trace(images).lower(lowering_platforms=("tpu",))
    assert f"{size[0]}x{size[0]}xf32" not in lowered.as_text()
    assert lowered.out_info.shape == (1, 7 if size[0] == 26 else 6, 10, 5)


def test_tpus_fold_and_others_do_not():
    images, kernel, bias = some_arrays()
    traced = jax.jit(lambda x: stem(x, kernel, bias, None)).trace(images)
    folds = {
        p: "24x24xf32" in traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")
    }
    assert folds == {"cpu": False, "cuda": False, "tpu": True}
