"""Models whose images are in the middle of a black canvas, with boxes that end at their last pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import random_model
from flax import nnx

import jaxmaskrcnn as jmr
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.frames import place_images
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.inputs import network_input
from jaxmaskrcnn.structures import Proposals, RawImages
from jaxmaskrcnn.zoo.lookup import model_config

SIDE = 64
NARROW = {
    "backbone.depth": 18, "backbone.width": 8, "neck.channels": 8, "rpn.conv_dim": 8, "box.fc_dim": 8,
    "mask.convs": 1, "mask.dim": 8, "rpn.anchors.sizes": (8, 16, 32, 64, 128), "rpn.pre_nms_train": 100,
    "rpn.pre_nms_test": 100, "rpn.post_nms_train": 40, "rpn.post_nms_test": 30, "regions.batch_size": 16,
    "detections.per_image": 12, "detections.score_threshold": 0.0, "input.test_min_size": 48,
    "input.test_max_size": SIDE, "input.pad_divisor": SIDE,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    model = random_model(model_config("matterport/mask_rcnn_coco", 3, **NARROW))
    model.box_head.cls_score.bias[...] = jnp.array([-3.0, 1, 0, 0])  # so that some regions are objects
    return model


def picture(height, width):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
    masks = np.zeros((1, height, width), bool)
    masks[0, 8:30, 12:40] = np.tri(22, 28, 6, bool)
    return image, {"boxes": [[12, 8, 40, 30]], "labels": [1], "masks": masks}


DETECT = jax.jit(lambda model, batch: model.detect(batch))
LOSSES = jax.jit(lambda model, batch: model.losses(batch))


@pytest.mark.slow
def test_targets_are_moved_with_the_image(model):
    """The losses of a model that leaves the image where it is, given an image that is moved already."""
    image, target = picture(48, 64)
    batch = make_batch(model, [image], [target])
    losses = {name: float(value) for name, value in LOSSES(model, batch).items()}
    assert all(value > 0 for value in losses.values())

    corner = model.config.replace({"input.placement": "corner"})
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    canvas[8:56] = image
    masks = np.zeros((1, SIDE, SIDE), bool)
    masks[:, 8:56] = target["masks"]
    moved = make_batch(corner, [canvas], [{"boxes": [[12, 16, 40, 38]], "labels": [1], "masks": masks}])
    again = random_model(corner)
    again.box_head.cls_score.bias[...] = model.box_head.cls_score.bias[...]
    assert {name: float(value) for name, value in LOSSES(again, moved).items()} == pytest.approx(
        losses, rel=1e-5
    )
    # Without the moved targets they are others.
    wrong = moved._replace(targets=batch.targets)
    assert float(LOSSES(again, wrong)["loss_mask"]) != pytest.approx(losses["loss_mask"], rel=1e-3)


@pytest.mark.slow
def test_every_parameter_learns(model):
    image, target = picture(48, 64)
    graphdef, params, rest = nnx.split(model, trainable(model), ...)
    batch = make_batch(model, [image], [target])

    @jax.jit
    def gradients(params):
        def loss(params):
            return sum(nnx.merge(graphdef, params, rest).losses(batch).values())

        return jax.grad(loss)(params)

    flat = nnx.to_flat_state(gradients(params))
    found = {".".join(map(str, path)): np.abs(value[...]).max() for path, value in flat}
    assert np.isfinite(list(found.values())).all()
    # Batch norm's scales and the biases before it, too: its statistics are fixed.
    # A coarse level of so small an image may have no anchor among the sampled ones.
    assert all(value > 0 or "layer_blocks" in name for name, value in found.items())
    assert "backbone.body.bn1.scale" in found and "backbone.body.conv1.bias" in found


@jax.jit
def masks_again(model, batch):
    levels, found = model.detect_boxes(batch)
    return model.masks_of_boxes(batch, levels, found.boxes, found.labels, found.valid)


@pytest.mark.slow
def test_boxes_of_results_are_those_of_the_image(model):
    """Detections of a wide and of a high image lie within them, and masks of given boxes are theirs."""
    for height, width in ((48, 64), (64, 40)):
        image, _ = picture(height, width)
        batch = make_batch(model, [image])
        found = jax.tree.map(np.asarray, DETECT(model, batch))
        boxes = found.boxes[0][found.valid[0]]
        assert len(boxes) and (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        np.testing.assert_allclose(masks_again(model, batch), found.masks, rtol=0, atol=1e-4)


def test_images_on_the_canvas(model):
    """The image in the middle, black pixels beside it, and zeros outside of its own extent."""
    config = model.config
    images = np.zeros((1, SIDE, SIDE + 32, 3), np.float32)
    images[0, :48, :SIDE] = 7
    placed = np.asarray(place_images(images, jnp.array([[48, SIDE]]), jnp.array([[SIDE, SIDE]]), config))[0]
    assert (placed[8:56, :SIDE] == 7).all() and (placed[:, SIDE:] == 0).all()
    black = -np.float32(config.input.pixel_mean)
    assert (placed[:8, :SIDE] == black).all() and (placed[56:, :SIDE] == black).all()


def test_images_that_the_device_normalises(model):
    """uint8 images are placed after they are normalised; it has no kernel to resize them itself."""
    image, _ = picture(48, 64)
    host = make_batch(model, [image])
    pixels = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    pixels[0, :48] = image
    on_device = network_input(host._replace(images=pixels), model.config)
    np.testing.assert_allclose(on_device, network_input(host, model.config), rtol=0, atol=1e-4)
    raw = RawImages(pixels, host.image_sizes, np.zeros(1, bool))
    with pytest.raises(ValueError, match="resize kernel 'skimage' is unknown"):
        network_input(host._replace(images=pixels[..., :0], raw=raw), model.config)


def test_one_class_for_each_region():
    """The most probable class of a region, and none if that is the background."""
    config = model_config("matterport/mask_rcnn_coco", 2, **{"detections.score_threshold": 0.5})
    boxes = jnp.array([[0.0, 0, 10, 10], [0, 0, 10, 11], [30, 30, 50, 50], [60, 60, 90, 90]])
    # The second region is of another class than the first; the third is background; the fourth is uncertain.
    logits = jnp.array([[0.0, 3, 2], [0, 2, 3], [5, 4, 0], [0, 0.1, 0]])
    proposals = Proposals(boxes, jnp.zeros(4), jnp.ones(4, bool))

    def select(config):
        window = jnp.array([0.0, 0, 99, 99])
        parts = config.classes, config.box, config.detections
        return select_detections(logits, jnp.zeros((4, 3, 4)), proposals, window, *parts)

    found = jax.jit(select, static_argnums=0)(config)
    assert found.valid.sum() == 2 and found.labels[:2].tolist() == [0, 1]
    more = config.replace({"detections.classes_per_region": "all", "detections.score_threshold": 0.2})
    assert jax.jit(select, static_argnums=0)(more).valid.sum() > 2


@pytest.mark.slow
def test_a_predictor(model):
    predictor = jmr.Predictor(model, score_threshold=0.0)
    out = predictor(picture(30, 60)[0])
    assert out["masks"].shape[1:] == (30, 60) and len(out["boxes"])
    assert (out["boxes"] == out["boxes"].round()).all()
