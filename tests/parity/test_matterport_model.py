"""matterport's detector, stage by stage: each stage is given what the original's stage before put out.

`goldens/record_matterport_model.py` recorded it under TensorFlow 2. Boxes are compared in the original's
units, in which the canvas is 1 wide and high. Errors are relative to the largest value but
where a unit is given.
"""

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_helpers import check, relative
from goldens.seeded_weights import sampled, seeded_matterport_weight, seeded_scene

from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import eval_size, make_batch, resize_for
from jaxmaskrcnn.inference.postprocess import postprocess
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.frames import frame_of
from jaxmaskrcnn.models.inputs import network_input
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.ops.masks import paste_masks
from jaxmaskrcnn.ops.masks.paste import paste_mask_window
from jaxmaskrcnn.ops.resize import output_size, resize_image
from jaxmaskrcnn.ops.roi_align import assign_levels, crop_and_resize
from jaxmaskrcnn.structures import Anchors, Proposals
from jaxmaskrcnn.zoo.lookup import model_config

GOLDEN = np.load(Path(__file__).parent.parent / "goldens" / "matterport_model.npz")
pytestmark = pytest.mark.slow
CASES = json.loads(str(GOLDEN["cases"]))
FIELDS = json.loads(str(GOLDEN["fields"]))
NAMES = {name: tuple(shape) for name, shape in json.loads(str(GOLDEN["names"])).items()}
SIDE = FIELDS["IMAGE_MAX_DIM"]
LIMIT = 1e-4


def configuration():
    fields = "".join(f"    {name} = {value!r}\n" for name, value in FIELDS.items())
    return LIBRARIES["matterport"].read_settings(f"class Golden(Config):\n{fields}", "the golden's class")


def to_pixels(boxes):
    """Boxes y1, x1, y2, x2 in shares of the canvas, as the network's XYXY."""
    return np.float32(boxes)[..., [1, 0, 3, 2]] * np.float32(SIDE - 1)


def to_shares(boxes):
    return np.asarray(boxes)[..., [1, 0, 3, 2]] / np.float32(SIDE - 1)


def batch_of(config, case):
    return make_batch(config, [seeded_scene(*CASES[case], [])["image"]])


@jax.jit
def run_stages(model, batch, given):
    config, pass_ = model.config, Pass(batch.extents)
    images = network_input(batch, config)
    maps = model.backbone.body(images, pass_)
    objectness, deltas, anchors, _ = model.propose(batch, given["levels"])
    pooler = model.pooler(batch, given["levels"])
    proposals = Proposals(given["proposals"], jnp.zeros((1, 60)), jnp.ones((1, 60), bool))

    def select(logits, deltas, proposals, window):
        return select_detections(
            logits, deltas, proposals, window, config.classes, config.box, config.detections
        )

    return {
        "input": images,
        "maps": maps,
        "levels": model.backbone.fpn(maps, pass_),
        "objectness": objectness,
        "deltas": deltas,
        "anchors": anchors,
        "pooled": pooler(given["proposals"], config.box.pool),
        "box_head": model.box_head(given["pooled"]),
        "detections": jax.vmap(select)(
            given["logits"], given["box_deltas"], proposals, frame_of(batch, config).image
        ),
        "mask_pooled": pooler(given["boxes"], config.mask.pool),
        "mask_logits": model.mask_head(given["mask_pooled"]),
    }


@pytest.fixture(scope="module")
def stages():
    config = configuration()
    weights = {name: seeded_matterport_weight(name, shape) for name, shape in NAMES.items()}
    model = from_state_dict(weights, config, "matterport")
    batch = batch_of(config, "alone")
    given = {
        "levels": [GOLDEN[f"fpn_p{i}"][None] for i in range(2, 7)],
        "proposals": to_pixels(GOLDEN["proposals"])[None],
        "pooled": GOLDEN["pooled"],
        "logits": GOLDEN["logits"][None],
        "box_deltas": GOLDEN["box_deltas"][None][..., [1, 0, 3, 2]],
        "boxes": to_pixels(GOLDEN["alone/detections"][:, :4])[None],
        "mask_pooled": GOLDEN["mask_pooled"],
    }
    out = jax.tree.map(np.asarray, run_stages(model, batch, given))
    return SimpleNamespace(model=model, batch=batch, config=config, out=out)


def check_samples(name, ours, key=None):
    key = key or name
    assert tuple(GOLDEN[f"{key}/shape"][-ours.ndim :]) == ours.shape or ours.shape[0] == 1
    theirs = GOLDEN[f"{key}/values"]
    check(name, relative(sampled(key, ours, len(theirs)), theirs), LIMIT)


# -- input


@pytest.mark.parametrize("case", CASES)
def test_resized_image(case):
    config = configuration()
    image = seeded_scene(*CASES[case], [])["image"]
    size = eval_size(config, *image.shape[:2])
    top, left, bottom, right = GOLDEN[f"{case}/window"]
    assert size == (bottom - top, right - left)
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    canvas[top:bottom, left:right] = resize_for(config, image, size)
    assert zlib.crc32(canvas.tobytes()) == GOLDEN[f"{case}/input/crc"]


SIZES = [key.split("/")[1] for key in GOLDEN if key.startswith("resize/") and key.endswith("/crc")]


@pytest.mark.parametrize("size", SIZES)
def test_resized_images_of_the_usual_size(size):
    """To the last bit, enlarged or reduced, for 800 and 1024."""
    height, width = map(int, size.split("x"))
    top, left, bottom, right = GOLDEN[f"resize/{size}/window"]
    new = output_size(height, width, 800, 1024, "enlarge")
    assert new == (bottom - top, right - left)
    canvas = np.zeros((1024, 1024, 3), np.uint8)
    canvas[top:bottom, left:right] = resize_image(seeded_scene(height, width, [])["image"], new, "skimage")
    assert zlib.crc32(canvas.tobytes()) == GOLDEN[f"resize/{size}/crc"]


def test_molded_image(stages):
    check_samples("alone/input", stages.out["input"])


# -- features and proposals


def test_backbone_and_pyramid(stages):
    for name, ours in zip(
        ("res2c_out", "res3d_out", "res4f_out", "res5c_out"), stages.out["maps"], strict=True
    ):
        check_samples(name, ours)
    for i, ours in enumerate(stages.out["levels"], 2):
        check_samples(f"fpn_p{i}", ours)


def test_rpn_head(stages):
    theirs = GOLDEN["rpn_logits"]
    check("RPN logits", relative(stages.out["objectness"][0], theirs[:, 1] - theirs[:, 0]), LIMIT)
    check("RPN deltas", relative(stages.out["deltas"][0], GOLDEN["rpn_deltas"][:, [1, 0, 3, 2]]), LIMIT)
    probabilities = jax.nn.sigmoid(stages.out["objectness"][0])
    check("RPN probabilities", np.abs(probabilities - GOLDEN["rpn_probabilities"]), 1e-5)


def test_anchors(stages):
    check("anchors", np.abs(to_shares(stages.out["anchors"].boxes[0]) - GOLDEN["anchors"]), 1e-6)
    assert stages.out["anchors"].valid.all()


def test_proposals(stages):
    """From the original's logits, deltas and anchors."""
    logits, deltas = GOLDEN["rpn_logits"], GOLDEN["rpn_deltas"][:, [1, 0, 3, 2]]
    anchors = Anchors(to_pixels(GOLDEN["anchors"]), np.ones(len(logits), bool))
    sizes, window = (
        [(SIDE // 2**i, SIDE // 2**i) for i in range(2, 7)],
        jnp.array([0, 0, SIDE - 1, SIDE - 1.0]),
    )
    ours = jax.jit(lambda o, d, a: select_proposals(o, d, a, sizes, window, stages.config.rpn, train=False))(
        logits[:, 1] - logits[:, 0], deltas, anchors
    )
    assert np.asarray(ours.valid).all()
    check("proposals", np.abs(to_shares(ours.boxes) - GOLDEN["proposals"]), LIMIT)


# -- regions


def beyond_by_rounding(boxes, side, bins):
    """Whether the original's float32 puts each region's last row and column beyond its map, where it is 0."""
    y1, x1, y2, x2 = np.float32(boxes).T
    last, count = np.float32(side - 1), np.float32(bins - 1)
    return [low * last + count * ((high - low) * last / count) > last for low, high in ((y1, y2), (x1, x2))]


def check_pooled(name, ours, theirs, boxes, bins):
    """All values, but for the last row or column of regions that the original's rounding makes 0."""
    pixels = to_pixels(boxes) * np.float32(SIDE / (SIDE - 1))
    level = np.asarray(assign_levels(pixels, rule="rounded"))
    rows, columns = beyond_by_rounding(boxes, SIDE // 2**level, bins)
    assert (theirs[rows, -1] == 0).all() and (theirs[columns, :, -1] == 0).all()
    assert rows.sum() + columns.sum() < 0.2 * len(boxes)
    ours = ours.copy()
    ours[rows, -1] = ours[columns, :, -1] = 0
    check(name, relative(ours, theirs), LIMIT)


def test_pooled_features(stages):
    boxes, theirs = GOLDEN["proposals"], GOLDEN["pooled"]
    check_pooled("box features", stages.out["pooled"][: len(theirs)], theirs, boxes[: len(theirs)], 7)
    boxes, theirs = GOLDEN["alone/detections"][:, :4], GOLDEN["mask_pooled"]
    check_pooled("mask features", stages.out["mask_pooled"][: len(theirs)], theirs, boxes[: len(theirs)], 14)


@pytest.mark.parametrize("bins", [1, 7, 14])
@pytest.mark.parametrize("implementation", [None, "gather_at_once", "tiles_cpu"])
def test_crop_and_resize(bins, implementation):
    """TensorFlow's own operator, with regions that reach beyond the map."""
    boxes, features = GOLDEN["crop/boxes"], GOLDEN["crop/features"]
    size = np.array(features.shape[:2]) * 4
    pixels = boxes[:, [1, 0, 3, 2]] * np.tile(size[::-1] - 1, 2)
    ours = crop_and_resize(
        (features,), pixels, np.zeros(len(boxes), int), bins, image_size=size, implementation=implementation
    )
    check(f"crop_and_resize, {bins} bins", relative(np.asarray(ours), GOLDEN[f"crop/{bins}"]), LIMIT)


def test_gradient_of_crop_and_resize():
    """The pooling is linear, so its gradient along any direction is its value in that direction."""
    boxes, features = GOLDEN["crop/boxes"], GOLDEN["crop/features"]
    size = np.array(features.shape[:2]) * 4
    pixels = boxes[:, [1, 0, 3, 2]] * np.tile(size[::-1] - 1, 2)
    weights = np.random.default_rng(0).normal(size=(len(boxes), 7, 7, 3)).astype(np.float32)

    def total(x):
        return (crop_and_resize((x,), pixels, jnp.zeros(len(boxes), int), 7, image_size=size) * weights).sum()

    gradient = jax.jit(jax.grad(total))(features)
    expected = float((GOLDEN["crop/7"] * weights).sum())
    assert float((np.asarray(gradient) * features).sum()) == pytest.approx(expected, rel=1e-4)


def test_box_head(stages):
    logits, deltas = stages.out["box_head"]
    count = len(GOLDEN["pooled"])
    check("box logits", relative(logits, GOLDEN["logits"][:count]), LIMIT)
    check("box deltas", relative(deltas[..., [1, 0, 3, 2]], GOLDEN["box_deltas"][:count]), LIMIT)


def test_detections(stages):
    ours, theirs = stages.out["detections"], GOLDEN["alone/detections"]
    assert ours.valid.all()  # the limit ends the list
    np.testing.assert_array_equal(ours.labels[0] + 1, theirs[:, 4])
    check("detections", np.abs(to_shares(ours.boxes[0]) - theirs[:, :4]), LIMIT)
    check("scores", np.abs(ours.scores[0] - theirs[:, 5]), LIMIT)


def test_masks(stages):
    probabilities = np.asarray(jax.nn.sigmoid(stages.out["mask_logits"]))
    check_samples("mask probabilities", probabilities, "mask_probabilities")


# -- back to the image


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_whole_model(stages, case):
    """From the image to its masks; nothing of the original's in between."""
    batch = batch_of(stages.config, case)
    found = jax.tree.map(lambda x: np.asarray(x)[0], DETECT(stages.model, batch))
    result = postprocess(found, batch.image_sizes[0], batch.original_sizes[0], stages.config)
    np.testing.assert_array_equal(result["boxes"], GOLDEN[f"{case}/boxes"][:, [1, 0, 3, 2]])
    np.testing.assert_array_equal(result["labels"], GOLDEN[f"{case}/labels"])
    check("scores", np.abs(result["scores"] - GOLDEN[f"{case}/scores"]), LIMIT)
    theirs = np.unpackbits(GOLDEN[f"{case}/masks"], count=result["masks"].size)
    assert theirs.any()
    np.testing.assert_array_equal(result["masks"], theirs.reshape(result["masks"].shape))


DETECT = jax.jit(lambda model, batch: model.detect(batch))


def test_pasted_masks():
    """Masks that are above the threshold everywhere cover their boxes, whose rims would otherwise fade."""
    masks, boxes = GOLDEN["paste/masks"], np.float32(GOLDEN["paste/boxes"][:, [1, 0, 3, 2]])
    theirs = np.unpackbits(GOLDEN["paste/pasted"], count=6 * 90 * 100).reshape(6, 90, 100).astype(bool)
    assert theirs[0].sum() == 37 * 55
    device = paste_masks(masks, boxes, (90, 100), convention="whole_boxes")
    np.testing.assert_array_equal(np.asarray(device) >= 0.5, theirs)
    for mask, box, expected in zip(masks, boxes, theirs, strict=True):
        window, (y, x) = paste_mask_window(mask, box, (90, 100), convention="whole_boxes")
        pasted = np.zeros((90, 100), bool)
        pasted[y : y + window.shape[0], x : x + window.shape[1]] = window >= 0.5
        np.testing.assert_array_equal(pasted, expected)


def test_boxes_of_the_image_and_of_the_network():
    """A box of the whole image ends at its last pixel within the network, and comes back as it was."""
    config = model_config("matterport/mask_rcnn_coco")
    batch = make_batch(config, [np.zeros((600, 800, 3), np.uint8)])
    frame = frame_of(batch, config)
    whole = jnp.array([[[0.0, 0, 1024, 768]]])
    assert frame.to_network(whole)[0, 0].tolist() == [0, 128, 1023, 895]
    np.testing.assert_array_equal(frame.to_image(frame.to_network(whole)), whole)
    np.testing.assert_array_equal(frame.to_network(whole)[:, 0], frame.image)
