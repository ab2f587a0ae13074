"""Whole detectors against MMDetection's, stage by stage; each stage gets MMDetection's own previous one.

``pytest -s`` prints the largest error of each stage; docs/conversion.md has them.
"""

import functools
import json
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import sampled, seeded_mmdet_weight, seeded_scene

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.postprocess import postprocess, postprocess_batch
from jaxmaskrcnn.models.anchor_grids import image_anchors
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.inputs import normalise
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.ops.resize import output_size, resize_image
from jaxmaskrcnn.ops.roi_align import assign_levels
from jaxmaskrcnn.structures import Batch, Detections, Proposals
from jaxmaskrcnn.zoo.lookup import model_config

STRIDES = (4, 8, 16, 32, 64)  # of P2 to P6

pytestmark = pytest.mark.usefixtures("highest_precision")
FUNCTIONS = np.load(GOLDENS / "mmdet_functions.npz")

# What the recording script builds: MMDetection's conventions on small networks.
SMALL = {
    "num_classes": 3, "rpn.anchors.sizes": (16, 32, 64, 128, 256), "box.fc_dim": 32, "rpn.pre_nms_test": 40,
    "rpn.post_nms_test": 90, "detections.per_image": 16,
}  # fmt: skip
NARROW = {"backbone.width": 8, "neck.channels": 16, "mask.dim": 16}
CONFIGS = {
    "pytorch": model_config("mmdet/mask-rcnn_r50_fpn_1x_coco", **SMALL, **NARROW),
    "caffe": model_config("mmdet/mask-rcnn_r50-caffe_fpn_1x_coco", **SMALL, **NARROW),
    "gn": model_config(
        "mmdet/mask-rcnn_r50_fpn_gn-all_2x_coco",
        **SMALL,
        **{"backbone.width": 32, "neck.channels": 64, "box.conv_dim": 64, "mask.dim": 64},
    ),
    # MMDetection's base_width 4 belongs to the 16 channels of this stem, this library's to 64.
    "resnext": model_config(
        "mmdet/mask-rcnn_x101-32x4d_fpn_1x_coco",
        **SMALL,
        **{**NARROW, "backbone.width": 16},
        **{
            "backbone.depth": 50,
            "backbone.groups": 4,
            "backbone.width_per_group": 16,
            "box.class_agnostic": True,
            "mask.class_agnostic": True,
        },
    ),
}
PIXEL_STD = {"caffe": 60.0, "gn": 60.0}  # what the recording script divides the stem's weights by
CASES = ["pytorch pair", "pytorch alone", "caffe alone", "gn pair", "resnext alone"]
# Each variant is a compilation; group norm and groups are in the quick goldens of Detectron2.
SLOW_CASES = ("pytorch alone", "caffe alone", "gn pair", "resnext alone")


class Recorded(NamedTuple):
    """A batch, what MMDetection made of it, and what this library makes of MMDetection's stages.

    Attributes:
        title: Variant and batch.
        golden: The variant's recording.
        case: The batch's prefix in it.
        model: The detector with MMDetection's weights.
        batch: The images.
        stages: From `run_stages`.
    """

    title: str
    golden: Any  # NpzFile
    case: str
    model: MaskRCNN
    batch: Batch
    stages: dict[str, Any]

    def __getitem__(self, name):
        return self.golden[f"{self.case}/{name}"]

    @property
    def images(self):
        return range(len(self.batch.images))

    def check(self, stage, errors, limit):
        """No error above the limit; ``pytest -s`` shows the largest."""
        check(f"{self.title} {stage}", errors, limit)

    def check_samples(self, stage, name, ours, limit=1e-4):
        """Samples of an output, relative to the largest of them."""
        theirs = self[f"{name}/values"]
        assert ours.shape == tuple(self[f"{name}/shape"])
        self.check(stage, relative(sampled(name, ours, len(theirs)), theirs), limit)


def padded(values, slots, dtype=None):
    """The values, and zeros in the slots behind."""
    values = np.asarray(values, dtype)
    return np.concatenate([values, np.zeros((slots - len(values), *values.shape[1:]), values.dtype)])


def given(golden, case, name):
    """A stage as MMDetection's next one got it."""
    return golden[f"{case}/{name}"].astype(np.float32)


def forced_inputs(golden, case, config: ModelConfig, count: int) -> dict[str, Any]:
    """What every stage is fed with: MMDetection's stages before it, for ``count`` images."""

    def each(name, slots, kind=np.float32):
        return np.stack([padded(golden[f"{case}/{i}/{name}"], slots, kind) for i in range(count)])

    proposals, found = config.rpn.post_nms_test, config.detections.per_image
    counts = np.array([len(golden[f"{case}/{i}/proposals"]) for i in range(count)])
    levels = [given(golden, case, f"P{i}") for i in range(2, 7)]
    inputs = {
        "P": levels,
        "objectness": golden[f"{case}/objectness"],
        "deltas": given(golden, case, "deltas"),
        "proposals": Proposals(
            each("proposals", proposals),
            each("proposal_scores", proposals),
            np.arange(proposals) < counts[:, None],
        ),
        "pooled": np.concatenate([given(golden, case, f"{i}/pooled") for i in range(count)]),
        "logits": each("logits", proposals),
        "box_deltas": each("box_deltas", proposals).reshape(count, proposals, -1, 4),
        "boxes": each("boxes", found),
        "mask_pooled": np.concatenate([given(golden, case, f"{i}/mask_pooled") for i in range(count)]),
    }
    if f"{case}/large/boxes" in golden:
        inputs["large"] = golden[f"{case}/large/boxes"][None]
    if f"{case}/C2" in golden:
        inputs["C"] = [given(golden, case, f"C{i}") for i in range(2, 6)]
    return inputs


@jax.jit
def run_stages(model: MaskRCNN, batch: Batch, inputs: dict[str, Any]) -> dict[str, Any]:
    """Every part of the model, on MMDetection's inputs; and the whole model on the images."""
    config, levels = model.config, inputs["P"]
    assign = jax.vmap(functools.partial(assign_levels, rule=config.box.pool.level_rule))
    sizes = tuple(level.shape[1:3] for level in levels)
    anchors = jax.vmap(lambda extent: image_anchors(sizes, STRIDES, extent, config.rpn.anchors))(
        batch.extents
    )
    objectness, deltas = model.rpn(levels, Pass(batch.extents))
    out = {
        "C": model.backbone.body(batch.images, Pass(batch.extents)),
        "objectness": objectness,
        "deltas": deltas,
        "anchors": anchors,
        "proposals": jax.vmap(
            lambda objectness, deltas, anchors, size: select_proposals(
                objectness, deltas, anchors, sizes, size, config.rpn, train=False
            )
        )(inputs["objectness"], inputs["deltas"], anchors, batch.image_sizes),
        "levels": assign(inputs["proposals"].boxes),
        "pooled": model.pool(batch, levels, inputs["proposals"].boxes, config.box.pool),
        "box_head": model.box_head(inputs["pooled"]),
        "detections": jax.vmap(
            lambda logits, deltas, proposals, size: select_detections(
                logits, deltas, proposals, size, config.classes, config.box, config.detections
            )
        )(inputs["logits"], inputs["box_deltas"], inputs["proposals"], batch.image_sizes),
        "mask_pooled": model.pool(batch, levels, inputs["boxes"], config.mask.pool),
        "mask_logits": model.mask_head(inputs["mask_pooled"]),
        "whole": model.detect(batch),
    }
    if "large" in inputs:
        out["large"] = {
            "levels": assign(inputs["large"]),
            "bbox": model.pool(batch, levels, inputs["large"], config.box.pool),
            "mask": model.pool(batch, levels, inputs["large"], config.mask.pool),
        }
    if "C" in inputs:
        out["P"] = model.backbone.fpn(inputs["C"], Pass(batch.extents[-1:]))
    return out


@pytest.fixture(
    scope="module",
    params=[pytest.param(c, marks=pytest.mark.slow if c in SLOW_CASES else ()) for c in CASES],
)
def recorded(request):
    variant, case = request.param.split()
    golden = np.load(GOLDENS / f"mmdet_{variant}.npz")
    shapes, (longest, shortest) = json.loads(str(golden["cases"]))[case]
    names = json.loads(str(golden["names"]))
    std = PIXEL_STD.get(variant, 1.0)
    weights = {name: seeded_mmdet_weight(name, tuple(shape), std) for name, shape in names.items()}
    model = from_state_dict(
        weights,
        CONFIGS[variant].replace({"input.test_min_size": shortest, "input.test_max_size": longest}),
        "mmdet",
    )
    batch = make_batch(model, [seeded_scene(*shape, [])["image"] for shape in shapes])
    inputs = forced_inputs(golden, case, model.config, len(shapes))
    stages = jax.tree.map(np.asarray, run_stages(model, batch, inputs))
    return Recorded(request.param, golden, case, model, batch, stages)


def test_preprocessing(recorded):
    batch = recorded.batch
    np.testing.assert_array_equal(batch.image_sizes, recorded["image_sizes"])
    recorded.check_samples("network input", "input", batch.images, 0)
    assert zlib.crc32(np.ascontiguousarray(batch.images).tobytes()) == recorded["input/crc"]


def test_backbone_and_pyramid(recorded):
    for i, ours in enumerate(recorded.stages["C"], 2):
        recorded.check_samples(f"C{i}", f"C{i}", ours)
    for i, ours in enumerate(recorded.stages.get("P", []), 2):
        recorded.check_samples(f"P{i}", f"P{i}/last", ours)


def test_rpn_head(recorded):
    theirs = recorded["objectness"]
    recorded.check("RPN logits", relative(recorded.stages["objectness"], theirs), 1e-4)
    recorded.check_samples("RPN deltas", "deltas", recorded.stages["deltas"])


def test_anchors(recorded):
    for boxes, valid in zip(*recorded.stages["anchors"], strict=True):
        np.testing.assert_array_equal(np.concatenate([boxes[:12], boxes[-12:]]), recorded["anchors"])
        assert zlib.crc32(boxes.tobytes()) == recorded["anchors/crc"]
        assert valid.all()


def test_proposals(recorded):
    ours = recorded.stages["proposals"]
    for i in recorded.images:
        theirs = recorded[f"{i}/proposals"]
        assert ours.valid[i].sum() == len(theirs)
        recorded.check("proposals, px", np.abs(ours.boxes[i][: len(theirs)] - theirs), 1e-2)
        scores = np.abs(ours.scores[i][: len(theirs)] - recorded[f"{i}/proposal_scores"])
        recorded.check("proposal scores", scores, 1e-6)


def test_levels_and_box_features(recorded):
    pooled = recorded.stages["pooled"]
    pooled = pooled.reshape(len(recorded.images), -1, *pooled.shape[1:])
    for i in recorded.images:
        theirs = recorded[f"{i}/levels"] + 2
        np.testing.assert_array_equal(recorded.stages["levels"][i][: len(theirs)], theirs)
        count = len(recorded[f"{i}/pooled"])
        recorded.check_samples("box features", f"{i}/pooled", pooled[i][:count])
    if "large" in recorded.stages:  # regions of all levels, beyond the borders, without a side
        large = recorded.stages["large"]
        np.testing.assert_array_equal(large["levels"][0], recorded["large/levels"] + 2)
        for name in ("bbox", "mask"):
            recorded.check_samples(f"{name} features of large regions", f"large/{name}", large[name])


def test_box_head(recorded):
    start = 0
    for i in recorded.images:
        count = len(recorded[f"{i}/pooled"])
        for name, ours in zip(("logits", "box_deltas"), recorded.stages["box_head"], strict=True):
            ours, theirs = ours[start : start + count].reshape(count, -1), recorded[f"{i}/{name}"][:count]
            recorded.check(f"box head, {name}", relative(ours, theirs), 1e-4)
        start += count


def test_detections(recorded):
    ours = recorded.stages["detections"]
    for i in recorded.images:
        labels = recorded[f"{i}/labels"]
        np.testing.assert_array_equal(ours.labels[i][ours.valid[i]], labels)  # the count as well
        found = ours.valid[i]
        recorded.check("detections, px", np.abs(ours.boxes[i][found] - recorded[f"{i}/boxes"]), 1e-2)
        recorded.check("detection scores", np.abs(ours.scores[i][found] - recorded[f"{i}/scores"]), 1e-6)


def test_mask_head(recorded):
    pooled, start = recorded.stages["mask_pooled"], 0
    pooled = pooled.reshape(len(recorded.images), -1, *pooled.shape[1:])
    for i in recorded.images:
        count = len(recorded[f"{i}/mask_pooled"])
        recorded.check_samples("mask features", f"{i}/mask_pooled", pooled[i][:count])
        logits = recorded.stages["mask_logits"][start : start + count]
        recorded.check_samples("mask logits", f"{i}/mask_logits", logits)
        start += count


def check_masks(recorded, i, name, ours, probabilities):
    """Equal but where the probability is next to the threshold."""
    theirs = np.unpackbits(recorded[f"{i}/{name}"], count=ours.size).reshape(ours.shape).astype(bool)
    differs = ours != theirs
    print(f"{recorded.title} | {name}, pixels that differ | {differs.sum()} of {theirs.sum()} covered")
    assert theirs.any()
    assert (np.abs(probabilities[differs] - 0.5) < 1e-4).all()


def test_results(recorded):
    batch, config = recorded.batch, recorded.model.config
    for i in recorded.images:
        boxes = recorded[f"{i}/boxes"]
        probabilities = np.asarray(jax.nn.sigmoid(given(recorded.golden, recorded.case, f"{i}/mask_logits")))
        found = Detections(
            boxes, recorded[f"{i}/scores"], recorded[f"{i}/labels"], probabilities, np.ones(len(boxes), bool)
        )
        sizes = batch.image_sizes[i], batch.original_sizes[i]
        ours = postprocess(found, *sizes, config)
        np.testing.assert_array_equal(ours["boxes"], recorded[f"{i}/final_boxes"])
        soft = postprocess(found, *sizes, config, masks="probs")["masks"]
        check_masks(recorded, i, "masks", ours["masks"], soft)


def test_whole_model(recorded):
    """From the image to its masks, unrounded: nothing of MMDetection's in between."""
    batch, config = recorded.batch, recorded.model.config
    for i in recorded.images:
        found = jax.tree.map(lambda x, i=i: x[i], recorded.stages["whole"])
        sizes = batch.image_sizes[i], batch.original_sizes[i]
        ours = postprocess(found, *sizes, config)
        np.testing.assert_array_equal(ours["labels"], recorded[f"{i}/whole/labels"])
        recorded.check("whole, boxes, px", np.abs(ours["boxes"] - recorded[f"{i}/whole/boxes"]), 1e-2)
        recorded.check("whole, scores", np.abs(ours["scores"] - recorded[f"{i}/whole/scores"]), 1e-4)
        soft = postprocess(found, *sizes, config, masks="probs")["masks"]
        check_masks(recorded, i, "whole/masks", ours["masks"], soft)


def test_sizes():
    """The size rule, for images of any shape."""
    sizes = [output_size(int(h), int(w), 800, 1333, "round") for h, w in FUNCTIONS["sizes/shapes"]]
    np.testing.assert_array_equal(sizes, FUNCTIONS["sizes/resized"])


def test_anchors_of_a_large_image():
    config = model_config("mmdet/mask-rcnn_r50_fpn_1x_coco")
    sizes = tuple((-(-800 // stride), -(-1344 // stride)) for stride in (4, 8, 16, 32, 64))
    anchors = jax.jit(lambda extent: image_anchors(sizes, STRIDES, extent, config.rpn.anchors))(
        jnp.array([800, 1344])
    )
    boxes = np.asarray(anchors.boxes)
    np.testing.assert_array_equal(np.concatenate([boxes[:12], boxes[-12:]]), FUNCTIONS["anchors"])
    assert zlib.crc32(boxes.tobytes()) == FUNCTIONS["anchors/crc"]


@pytest.mark.parametrize("jit", [False, True])
def test_levels_next_to_their_limits(jit):
    """Boxes whose sides are 112, 224 and 448 pixels, less or more by a few units in the last place."""
    assign = (jax.jit if jit else lambda f: f)(lambda boxes: assign_levels(boxes, rule="finest_epsilon"))
    np.testing.assert_array_equal(assign(FUNCTIONS["levels/boxes"]), FUNCTIONS["levels"] + 2)


def pair():
    """The batch of two of the pytorch style: its recording, config and inputs."""
    golden = np.load(GOLDENS / "mmdet_pytorch.npz")
    config = CONFIGS["pytorch"].replace({"input.test_min_size": 96, "input.test_max_size": 128})
    return golden, config, forced_inputs(golden, "pair", config, 2)


def test_saturated_ranking():
    """Probabilities that are 1 in float32 are equal, and more of them than are taken; extreme deltas.

    MMDetection leaves the order of equal probabilities to an unstable sort. The recording has the
    lower index first, as this library always does.
    """
    golden, config, inputs = pair()
    sizes = tuple(level.shape[1:3] for level in inputs["P"])

    @jax.jit
    @jax.vmap
    def select(objectness, deltas, image_size):
        anchors = image_anchors(sizes, STRIDES, jnp.array([128, 128]), config.rpn.anchors)
        return select_proposals(objectness, deltas, anchors, sizes, image_size, config.rpn, train=False)

    ours = select(8 * inputs["objectness"] + 10, 10 * inputs["deltas"], golden["pair/image_sizes"])
    for i, valid in enumerate(np.asarray(ours.valid)):
        theirs, scores = FUNCTIONS[f"saturated/{i}/proposals"], FUNCTIONS[f"saturated/{i}/scores"]
        assert (scores == 1).sum() > 5 and valid.sum() == len(theirs)
        np.testing.assert_allclose(ours.boxes[i][valid], theirs, rtol=0, atol=1e-2)
        np.testing.assert_allclose(ours.scores[i][valid], scores, rtol=0, atol=1e-6)


def test_faster_rcnn():
    """Without a mask head, MMDetection's NMS is at the original image's scale.

    Overlaps do not depend on the scale, so here it stays at the network's. Unlike in the other
    cases, the score threshold ends the list of detections.
    """
    golden, config, inputs = pair()
    config = config.replace({"mask": None, "detections.per_image": 300})

    @jax.jit
    @jax.vmap
    def select(logits, deltas, proposals, image_size):
        return select_detections(
            logits, deltas, proposals, image_size, config.classes, config.box, config.detections
        )

    sizes = golden["pair/image_sizes"]
    originals = json.loads(str(golden["cases"]))["pair"][0]
    found = select(inputs["logits"], inputs["box_deltas"], inputs["proposals"], sizes)
    for i, ours in enumerate(postprocess_batch(found, sizes, originals, config)):
        np.testing.assert_array_equal(ours["labels"], FUNCTIONS[f"faster/{i}/labels"])
        np.testing.assert_allclose(ours["boxes"], FUNCTIONS[f"faster/{i}/bboxes"], rtol=0, atol=1e-2)
        np.testing.assert_allclose(ours["scores"], FUNCTIONS[f"faster/{i}/scores"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", ["pytorch", "caffe"])
def test_normalisation_on_the_device(variant):
    """Batches of the data pipeline are normalised there; the same but for the last bits."""
    config = CONFIGS[variant].replace({"input.test_min_size": 64, "input.test_max_size": 96})
    image = seeded_scene(75, 110, [])["image"]
    host = make_batch(config, [image])
    small = np.zeros(host.images.shape, np.uint8)
    height, width = host.image_sizes[0]
    small[0, :height, :width] = resize_image(image, (height, width), "cv2")
    device = jax.jit(lambda images: normalise(images, host.image_sizes, config))(small)
    np.testing.assert_allclose(device, host.images, rtol=0, atol=1e-6 if variant == "pytorch" else 1e-4)
