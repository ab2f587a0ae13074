"""Detectors of Detectron2, stage by stage: each stage gets what Detectron2's own previous stage put out.

The goldens hold three small models (see `record_detectron2_model.py`): the zoo's R50-FPN ("fpn"), group
norm with grouped convolutions and class-agnostic heads ("gn"), and the new baselines ("bn"). ``pytest -s``
prints the largest error of each stage; docs/conversion.md has them.
"""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import sampled, seeded_detectron2_weight, seeded_scene

from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import make_batch, resize_for
from jaxmaskrcnn.inference.postprocess import postprocess, postprocess_batch
from jaxmaskrcnn.models.anchor_grids import image_anchors
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.inputs import normalise
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.ops.boxes import decode_boxes
from jaxmaskrcnn.ops.resize import output_size
from jaxmaskrcnn.ops.roi_align import assign_levels
from jaxmaskrcnn.structures import Anchors, Detections, Proposals
from jaxmaskrcnn.zoo.lookup import model_config

STRIDES = (4, 8, 16, 32, 64)  # of P2 to P6

pytestmark = pytest.mark.usefixtures("highest_precision")
FUNCTIONS = np.load(GOLDENS / "detectron2_functions.npz")

# What the recording script tells Detectron2, in this library's words.
SMALL = {
    "num_classes": 3,
    "rpn.anchors.sizes": (10.0, 20.0, 40.0, 80.0, 160.0),
    "box.fc_dim": 32,
    "input.test_min_size": 112,
    "input.test_max_size": 150,
    "rpn.pre_nms_test": 60,
    "rpn.post_nms_test": 90,
    "detections.per_image": 14,
}
VARIANTS = {
    "fpn": {"backbone.width": 8, "neck.channels": 16, "mask.dim": 16},
    "gn": {
        "input.channel_order": "rgb",
        "input.pixel_mean": (123.675, 116.28, 103.53),
        "input.pixel_std": (58.395, 57.12, 57.375),
        "backbone.width": 32,
        "backbone.groups": 4,
        "backbone.width_per_group": 16,
        "backbone.norm": "gn",
        "backbone.stride_in_1x1": False,
        "neck.channels": 64,
        "neck.norm": "gn",
        "box.norm": "gn",
        "mask.norm": "gn",
        "box.convs": 4,
        "box.conv_dim": 64,
        "box.fcs": 1,
        "box.class_agnostic": True,
        "mask.dim": 64,
        "mask.class_agnostic": True,
        "input.test_min_size": 56,
        "input.test_max_size": 90,
        "detections.per_image": 8,
    },
    "bn": {
        "backbone.width": 8,
        "backbone.norm": "bn",
        "neck.channels": 16,
        "neck.norm": "bn",
        "rpn.convs": 2,
        "box.norm": "bn",
        "mask.norm": "bn",
        "box.convs": 4,
        "box.conv_dim": 16,
        "box.fcs": 1,
        "mask.dim": 16,
        "detections.score_threshold": 0.55,
    },
}
CASES = ["fpn/pair", "fpn/alone", "gn/pair", "gn/alone", "bn/alone"]
# Every case is a compilation of its own, so that one of them is enough for an ordinary run.
cases = pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c == "fpn/pair" else pytest.mark.slow) for c in CASES],
)


@functools.cache
def golden(variant):
    """The arrays of a file by name: settings, and what each case has."""
    with np.load(GOLDENS / f"detectron2_{variant}.npz") as file:
        return dict(file)


@functools.cache
def of_case(case):
    """A case's arrays: stages by name, and lists of what each image has."""
    variant, name = case.split("/")
    arrays = {k.removeprefix(f"{name}/"): v for k, v in golden(variant).items() if k.startswith(f"{name}/")}
    images = {}
    for key in [key for key in arrays if "/" in key]:
        images.setdefault(key.split("/")[1], []).append(arrays.pop(key))
    return arrays, images


def config_of(case):
    return model_config("detectron2/mask_rcnn_R_50_FPN_3x", **SMALL | VARIANTS[case.split("/")[0]])


@functools.cache
def model_of(variant):
    shapes = json.loads(str(golden(variant)["names"]))
    weights = {
        name: seeded_detectron2_weight(name, tuple(shape))
        for name, shape in shapes.items()
        if not name.endswith("num_batches_tracked")
    }
    return from_state_dict(weights, config_of(variant), "detectron2")


@functools.cache
def scenes(case):
    variant, name = case.split("/")
    return [seeded_scene(*scene) for scene in json.loads(str(golden(variant)["cases"]))[name]]


@functools.cache
def batch_of(case):
    return make_batch(config_of(case), [scene["image"] for scene in scenes(case)])


@functools.cache
def body_of(variant):
    """C2 to C5 of all cases of a variant.

    One program: the images share a canvas, and each case's own extent hides the rest of it.
    """
    names = [case for case in CASES if case.startswith(f"{variant}/")]
    batches = [batch_of(case) for case in names]
    height, width = np.max([b.images.shape[1:3] for b in batches], axis=0)
    images = [
        np.pad(b.images, ((0, 0), (0, height - b.images.shape[1]), (0, width - b.images.shape[2]), (0, 0)))
        for b in batches
    ]
    extents = np.concatenate([b.extents for b in batches])
    run = jax.jit(lambda model, images, extents: model.backbone.body(images, Pass(extents)))
    stages = [np.asarray(x) for x in run(model_of(variant), np.concatenate(images), extents)]
    features, start = {}, 0
    for case, b in zip(names, batches, strict=True):
        count, height, width = b.images.shape[:3]
        features[case] = [
            x[start : start + count, : height // stride, : width // stride]
            for x, stride in zip(stages, (4, 8, 16, 32), strict=True)
        ]
        start += count
    return features


def run_stages(model, batch, stages, images, config):
    """Every stage behind the ResNet, on the golden's arrays; a stage whose input it lacks is left out."""
    out = {"levels": model.backbone.fpn([stages[f"C{i}"] for i in range(2, 6)], Pass(batch.extents))}
    levels = [stages[f"P{i}"] for i in range(2, 7)] if "large_features" in stages else out["levels"]
    out["objectness"], out["deltas"] = model.rpn(levels, Pass(batch.extents))
    sizes = tuple(x.shape[1:3] for x in levels)
    anchors = jax.vmap(lambda extent: image_anchors(sizes, STRIDES, extent, config.rpn.anchors))(
        batch.extents
    )
    out["anchors"] = anchors.boxes
    select = functools.partial(select_proposals, level_sizes=sizes, config=config.rpn, train=False)
    out["proposals"] = jax.vmap(lambda *x: select(x[0], x[1], Anchors(*x[2]), image_size=x[3]))(
        stages["objectness"], stages["deltas"], tuple(anchors), batch.image_sizes
    )
    valid = jnp.ones(images["proposal_logits"].shape, bool)
    proposals = Proposals(images["proposals"], images["proposal_logits"], valid)
    out["detections"] = jax.vmap(
        functools.partial(select_detections, classes=config.classes, box=config.box, config=config.detections)
    )(images["logits"], images["box_deltas"].reshape(*valid.shape, -1, 4), proposals, batch.image_sizes)
    if "large_features" not in stages:
        return out
    count = images["box_features"].shape[1]
    out["box_features"] = model.pool(batch, levels, images["proposals"][:, :count], config.box.pool)
    first = jax.tree.map(lambda x: x[:1], (batch, levels))
    out["large_features"] = model.pool(*first, images["large_boxes"][None], config.box.pool)
    out["logits"], out["box_deltas"] = model.box_head(jnp.concatenate(images["box_features"]))
    count = images["mask_features"].shape[1]
    boxes, labels = images["boxes"][:, :count], images["labels"][:, :count]
    out["mask_features"] = model.pool(batch, levels, boxes, config.mask.pool)
    out["mask_logits"] = model.mask_head(jnp.concatenate(images["mask_features"]))
    logits = jnp.concatenate(images["mask_logits"])
    out["masks"] = jax.nn.sigmoid(model.mask_head.of_class(logits, labels.reshape(-1)))
    return out


@functools.cache
def results(case):
    """`run_stages`, compiled and run."""
    stages, images = of_case(case)
    images = {k: np.stack(v) for k, v in images.items() if not k.startswith("final_")}
    images["large_boxes"] = golden("fpn")["large_boxes"]
    if stages["C2"].ndim == 1:  # samples only
        stages = stages | {f"C{i + 2}": x for i, x in enumerate(body_of(case.split("/")[0])[case])}
    run = jax.jit(functools.partial(run_stages, config=config_of(case)))
    return jax.tree.map(np.asarray, run(model_of(case.split("/")[0]), batch_of(case), stages, images))


def check_stage(case, name, ours, limit=1e-4):
    """Against the golden's array, whole or sampled."""
    theirs = of_case(case)[0][name]
    if theirs.ndim == 1:
        assert ours.shape == tuple(of_case(case)[0][f"{name}_shape"])
        ours = sampled(name, ours, len(theirs))
    assert ours.shape == theirs.shape
    check(f"{case} {name}, relative", relative(ours, theirs), limit)


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_file(variant, tmp_path):
    """What Detectron2 itself writes of the recorded configs is read as the config of these tests."""
    text = str(golden(variant)["yaml"])
    # The reader knows the widths that there are weights for, the recorded models are narrower.
    for key, width in {"STEM_OUT_CHANNELS": 64, "RES2_OUT_CHANNELS": 256}.items():
        text, count = re.subn(rf"\b{key}: \d+", f"{key}: {width}", text)
        assert count == 1
    (tmp_path / "config.yaml").write_text(text)
    width = json.loads(str(golden(variant)["settings"]))["MODEL.RESNETS.WIDTH_PER_GROUP"]
    expected = config_of(variant).replace({"backbone.width": 64, "backbone.width_per_group": width})
    assert config_from_file(tmp_path / "config.yaml") == expected


def test_sizes():
    sizes = [output_size(h, w, 800, 1333, "round_two_steps") for h, w in FUNCTIONS["shapes"].tolist()]
    # Detectron2 makes sizes of zero out of slivers, where Pillow then fails.
    np.testing.assert_array_equal(sizes, np.maximum(FUNCTIONS["sizes"], 1))


@cases
def test_input(case):
    stages, images = of_case(case)
    batch = batch_of(case)
    np.testing.assert_array_equal(batch.image_sizes, images["size"])
    assert batch.images.shape == tuple(stages["input_shape"])
    np.testing.assert_array_equal(sampled("input", batch.images, 2000), stages["input"])
    # Sums of that many float32 values are exact in float64: no other pixel differs.
    np.testing.assert_array_equal(batch.images.astype(np.float64).sum((1, 2)), stages["input_sum"])


@cases
def test_input_normalised_on_the_device(case):
    config, batch = config_of(case), batch_of(case)
    pixels = np.zeros(batch.images.shape, np.uint8)
    for slot, scene, size in zip(pixels, scenes(case), batch.image_sizes, strict=True):
        slot[: size[0], : size[1]] = resize_for(config, scene["image"], tuple(size))
    ours = jax.jit(functools.partial(normalise, config=config))(pixels, batch.image_sizes)
    check(
        f"{case} input on the device",
        np.abs(ours - batch.images),
        0 if config.input.pixel_std[0] == 1 else 3e-7,
    )


@pytest.mark.slow_except("fpn/pair")
@cases
def test_backbone(case):
    for i, ours in enumerate(body_of(case.split("/")[0])[case], start=2):
        check_stage(case, f"C{i}", ours)


@pytest.mark.slow
@cases
def test_pyramid(case):
    for i, ours in enumerate(results(case)["levels"], start=2):
        check_stage(case, f"P{i}", ours)


@pytest.mark.slow_except("fpn/pair")
@cases
def test_rpn_head(case):
    for name in ("objectness", "deltas"):
        check_stage(case, name, results(case)[name])


@cases
def test_anchors(case):
    expected = of_case(case)[0]["anchors"]
    for anchors in results(case)["anchors"]:
        np.testing.assert_array_equal(np.concatenate([anchors[:12], anchors[-12:]]), expected)


@cases
def test_proposals(case):
    images, ours = of_case(case)[1], results(case)["proposals"]
    for i, (boxes, scores) in enumerate(zip(images["proposals"], images["proposal_logits"], strict=True)):
        assert ours.valid[i].sum() == len(boxes)
        # Scores pass through unchanged, so equal scores are equal choices in an equal order.
        np.testing.assert_array_equal(ours.scores[i, : len(boxes)], scores)
        check(f"{case} proposals, px", np.abs(ours.boxes[i, : len(boxes)] - boxes), 1e-3)


@pytest.mark.slow
def test_proposals_that_are_hardly_boxes():
    boxes, logits = FUNCTIONS["candidates"], FUNCTIONS["candidate_logits"]
    config = config_of("fpn").replace({"rpn.pre_nms_test": 50})
    anchors = Anchors(boxes, np.ones(len(boxes), bool))
    deltas, level = np.zeros_like(boxes), ((1, len(boxes) // len(config.rpn.anchors.ratios)),)
    ours = select_proposals(logits, deltas, anchors, level, np.array([100, 140]), config.rpn, train=False)
    count = len(FUNCTIONS["proposals"])
    assert ours.valid.sum() == count
    np.testing.assert_array_equal(ours.scores[:count], FUNCTIONS["proposal_logits"])
    check("made-up proposals, px", np.abs(ours.boxes[:count] - FUNCTIONS["proposals"]), 1e-4)


def test_box_code():
    for weights, expected in zip(((1, 1, 1, 1), (10, 10, 5, 5)), FUNCTIONS["decoded"], strict=True):
        ours = decode_boxes(
            FUNCTIONS["deltas"], FUNCTIONS["anchors"], weights, config_of("fpn").rpn.delta_clamp
        )
        check("decoded boxes, relative", relative(np.asarray(ours), expected), 1e-6)


def test_levels():
    ours = assign_levels(FUNCTIONS["level_boxes"], rule=config_of("fpn").box.pool.level_rule)
    np.testing.assert_array_equal(ours, FUNCTIONS["levels"])


FULL = [
    pytest.param(case, marks=() if case == "fpn/pair" else pytest.mark.slow)
    for case in CASES
    if case != "gn/pair"
]


@pytest.mark.parametrize("case", FULL)
@pytest.mark.parametrize("name", ["box_features", "mask_features"])
def test_pooling(case, name):
    theirs = np.concatenate(of_case(case)[1][name])
    check(f"{case} {name}, relative", relative(results(case)[name], theirs), 1e-4)


@pytest.mark.parametrize("case", FULL)
def test_pooling_from_every_level(case):
    theirs = of_case(case)[0]["large_features"]
    ours = results(case)["large_features"][..., : theirs.shape[-1]]
    check(f"{case} features of large boxes, relative", relative(ours, theirs), 1e-4)


@pytest.mark.parametrize("case", FULL)
def test_box_head(case):
    images, ours = of_case(case)[1], results(case)
    count = len(images["box_features"][0])
    for name in ("logits", "box_deltas"):
        theirs = np.concatenate([x[:count] for x in images[name]])
        values = ours[name].reshape(theirs.shape)
        check(f"{case} box head {name}, relative", relative(values, theirs), 1e-4)


@cases
def test_detections(case):
    images, ours = of_case(case)[1], results(case)["detections"]
    for i, (boxes, scores, labels) in enumerate(
        zip(images["boxes"], images["scores"], images["labels"], strict=True)
    ):
        n = len(boxes)
        assert ours.valid[i].sum() == n
        np.testing.assert_array_equal(ours.labels[i, :n], labels)
        check(f"{case} detection scores", np.abs(ours.scores[i, :n] - scores), 1e-6)
        check(f"{case} detection boxes, px", np.abs(ours.boxes[i, :n] - boxes), 1e-3)


@pytest.mark.parametrize("case", FULL)
def test_mask_head(case):
    images, ours = of_case(case)[1], results(case)
    theirs = np.concatenate(images["mask_logits"])
    check(f"{case} mask logits, relative", relative(ours["mask_logits"], theirs), 1e-4)
    theirs = np.concatenate([x[: len(images["mask_logits"][0])] for x in images["masks"]])
    check(f"{case} mask probabilities", np.abs(ours["masks"] - theirs), 1e-5)


def check_final(label, detections, size, original, config, expected):
    """Results at the original scale; pixels within 1e-4 of the threshold may differ."""
    found = postprocess(detections, size, original, config)
    np.testing.assert_array_equal(found["labels"], expected["final_labels"])  # the count as well
    np.testing.assert_array_equal(found["scores"], expected["final_scores"])
    check(f"{label} final boxes, px", np.abs(found["boxes"] - expected["final_boxes"]), 1e-4)
    probs = postprocess(detections, size, original, config, masks="probs")["masks"]
    theirs = np.unpackbits(expected["final_masks"], count=probs.size).reshape(probs.shape) > 0
    different = found["masks"] != theirs
    print(f"{label} pixels that differ: {different.sum()}")
    assert not (different & (np.abs(probs - config.detections.mask_threshold) > 1e-4)).any()
    assert theirs.any()


@cases
def test_postprocessing(case):
    for i in range(len(scenes(case))):
        image = {name: values[i] for name, values in of_case(case)[1].items()}
        valid = np.ones(len(image["scores"]), bool)
        detections = Detections(image["boxes"], image["scores"], image["labels"], image["masks"], valid)
        check_final(f"{case} {i}", detections, image["size"], image["original"], config_of(case), image)


def test_postprocessing_of_boxes_beyond_the_border():
    raw = [FUNCTIONS[f"raw_{name}"] for name in ("boxes", "scores", "labels", "masks")]
    detections = Detections(*raw, np.ones(len(raw[0]), bool))
    check_final("made-up boxes", detections, (100, 140), (133, 171), config_of("fpn"), FUNCTIONS)


def test_a_probability_at_the_threshold():
    half = np.full((1, 28, 28), 0.5, np.float32)
    detections = Detections(
        np.float32([[3, 5, 31, 33]]), np.ones(1), np.zeros(1, int), half, np.ones(1, bool)
    )
    found = postprocess(detections, (40, 50), (40, 50), config_of("fpn"))
    # Detectron2's coordinates are rounded on their way, so some pixels have a little less than one half.
    assert FUNCTIONS["half"].any()
    assert found["masks"][FUNCTIONS["half"]].all()


def test_the_whole_model():
    """Its own stages behind each other, one image alone."""
    case = "fpn/alone"
    batch, images = batch_of(case), of_case(case)[1]
    detections = jax.jit(lambda model, batch: model.detect(batch))(model_of("fpn"), batch)
    (found,) = postprocess_batch(detections, batch.image_sizes, batch.original_sizes, config_of(case))
    np.testing.assert_array_equal(found["labels"], images["final_labels"][0])
    check("whole model, scores", np.abs(found["scores"] - images["final_scores"][0]), 1e-4)
    check("whole model, boxes, px", np.abs(found["boxes"] - images["final_boxes"][0]), 1e-2)
    theirs = np.unpackbits(images["final_masks"][0], count=found["masks"].size).reshape(found["masks"].shape)
    check("whole model, share of mask pixels that differ", (found["masks"] != theirs).mean(), 1e-4)
