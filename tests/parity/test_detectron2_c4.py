"""Detectron2's models without a pyramid (C4): each stage gets what Detectron2's own previous one put out.

What Detectron2 computed is in `goldens/detectron2_c4.npz` (see `record_detectron2_c4.py`). ``pytest -s``
prints the largest error of each stage.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import random_model
from flax import nnx
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import sampled, seeded_detectron2_c4_weight, seeded_polygons, seeded_scene
from training_helpers import flat, gradient_function

from jaxmaskrcnn.config import ConfigError, ModelConfig
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.postprocess import postprocess
from jaxmaskrcnn.losses import LOSS_NAMES
from jaxmaskrcnn.models.anchor_grids import image_anchors
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.structures import Anchors, Detections, Proposals
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

GOLDEN = dict(np.load(GOLDENS / "detectron2_c4.npz"))
SCENES = json.loads(str(GOLDEN["cases"]))
# What the recording script says to Detectron2, in this library's words.
CONFIG = model_config(
    "detectron2/mask_rcnn_R_50_C4_3x",
    num_classes=3,
    **{
        "backbone.width": 8,
        "backbone.freeze_at": 0,
        "rpn.anchors.sizes": ((12.0, 24.0, 40.0, 64.0, 96.0),),
        "rpn.pre_nms_train": 400,
        "rpn.post_nms_train": 60,
        "rpn.pre_nms_test": 300,
        "rpn.post_nms_test": 30,
        "rpn.batch_size": 64,
        "regions.batch_size": 80,
        "mask.dim": 16,
        "input.test_min_size": 75,
        "input.test_max_size": 99,
        "detections.per_image": 9,
    },
)
WEIGHTS = {
    name: seeded_detectron2_c4_weight(name, tuple(shape))
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}
# A canvas of its own is a compilation of its own.
cases = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case == "alone" else ()) for case in SCENES]
)


def path_of(name):
    """This library's path of an array, typed in from Detectron2's source."""
    *parts, last = name.split(".")
    last = {"weight": "kernel", "bias": "bias", "running_mean": "mean", "running_var": "var"}[last]
    if parts[0] == "backbone" or parts[1] == "res5":
        norm = parts[-1] == "norm"
        parts = [part for part in parts if part not in ("backbone", "roi_heads", "norm")]
        place = {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3", "shortcut": "downsample.bn"}
        layer = parts.pop()
        layer = place[layer] if norm else layer.replace("shortcut", "downsample.conv")
        last = last.replace("kernel", "scale") if norm else last
        if parts == ["stem"]:
            return f"backbone.body.{layer}.{last}"
        stage, block = parts
        owner = "trunk" if stage == "res5" else "backbone.body"
        return f"{owner}.layer{int(stage[3:]) - 1}.{block}.{layer}.{last}"
    known = {
        "proposal_generator.rpn_head.conv": "rpn.convs.0.conv",
        "proposal_generator.rpn_head.objectness_logits": "rpn.cls_logits",
        "proposal_generator.rpn_head.anchor_deltas": "rpn.bbox_pred",
        "roi_heads.box_predictor.cls_score": "box_head.cls_score",
        "roi_heads.box_predictor.bbox_pred": "box_head.bbox_pred",
        "roi_heads.mask_head.deconv": "mask_head.deconv",
        "roi_heads.mask_head.predictor": "mask_head.logits",
    }
    return f"{known['.'.join(parts)]}.{last}"


def to_model(name, value):
    if "deconv.weight" in name:
        return value.transpose(2, 3, 0, 1)
    return {4: lambda x: x.transpose(2, 3, 1, 0), 2: np.transpose, 1: lambda x: x}[value.ndim](value)


def to_detectron2(name, value):
    if "deconv.weight" in name:
        return value.transpose(2, 3, 0, 1)
    return {4: lambda x: x.transpose(3, 2, 0, 1), 2: np.transpose, 1: lambda x: x}[value.ndim](value)


@functools.cache
def model_of(masks=True):
    """The model with the seeded weights, every one of which has a place."""
    config = CONFIG if masks else CONFIG.replace({"mask": None})
    graphdef, state = nnx.split(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))
    arrays = {path_of(k): to_model(k, v) for k, v in WEIGHTS.items() if masks or "mask_head" not in k}
    variables = {".".join(map(str, path)): (path, v) for path, v in nnx.to_flat_state(state)}
    assert {k: v.shape for k, v in arrays.items()} == {k: v.shape for k, (_, v) in variables.items()}
    filled = [(path, v.replace(jnp.asarray(arrays[k]))) for k, (path, v) in variables.items()]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


@functools.cache
def of_case(case):
    """A case's arrays: stages by name, and what each image has, stacked."""
    arrays = {k.removeprefix(f"{case}/"): v for k, v in GOLDEN.items() if k.startswith(f"{case}/")}
    images = {}
    for key in sorted(key for key in arrays if "/" in key):
        images.setdefault(key.split("/")[1], []).append(arrays.pop(key))
    return arrays, images


@functools.cache
def batch_of(case):
    return make_batch(CONFIG, [seeded_scene(*scene)["image"] for scene in SCENES[case]])


@functools.cache
def results(case):
    """Every stage on the golden's arrays, compiled and run."""
    stages, images = of_case(case)
    images = {k: np.stack(v) for k, v in images.items() if not k.startswith(("final_", "original"))}

    def run(model, batch, stages, images):
        size = stages["C4"].shape[1:3]
        out = {"C4": model.backbone(batch.images, Pass(batch.extents))[0]}
        # A larger canvas changes nothing.
        wide = jnp.pad(batch.images, ((0, 0), (0, 29), (0, 31), (0, 0)))
        out["C4 on a larger canvas"] = model.backbone(wide, Pass(batch.extents))[0][:, : size[0], : size[1]]
        levels = (stages["C4"],)
        out["objectness"], out["deltas"] = model.rpn(levels, Pass(batch.extents))
        rpn = model.config.rpn
        anchors = jax.vmap(lambda extent: image_anchors((size,), (16,), extent, rpn.anchors))(batch.extents)
        out["anchors"] = anchors.boxes
        select = functools.partial(select_proposals, level_sizes=(size,), config=rpn, train=False)
        out["proposals"] = jax.vmap(lambda *x: select(x[0], x[1], Anchors(*x[2]), image_size=x[3]))(
            stages["objectness"], stages["deltas"], tuple(anchors), batch.image_sizes
        )
        pooler = model.pooler(batch, levels)
        for prefix, boxes in (("", images["proposals"]), ("mask_", images["boxes"])):
            out[f"{prefix}pooled"] = model.pool(batch, levels, boxes, model.config.box.pool)
            out[f"{prefix}res5"] = pooler(boxes, model.config.box.pool)
        out["means"] = out["res5"].mean((1, 2))
        # Cells that all hold the mean have the same mean.
        means = jnp.tile(jnp.concatenate(images["means"])[:, None, None], (1, 7, 7, 1))
        out["logits"], out["box_deltas"] = model.box_head(means)
        valid = jnp.ones(images["proposal_logits"].shape, bool)
        proposals = Proposals(images["proposals"], images["proposal_logits"], valid)
        config = model.config
        out["detections"] = jax.vmap(
            functools.partial(
                select_detections, classes=config.classes, box=config.box, config=config.detections
            )
        )(images["logits"], images["box_deltas"].reshape(*valid.shape, -1, 4), proposals, batch.image_sizes)
        logits = model.mask_head(out["mask_res5"])
        out["mask_logits"] = logits
        out["masks"] = jax.nn.sigmoid(model.mask_head.of_class(logits, images["labels"].reshape(-1)))
        first = jax.tree.map(lambda x: x[:1], (batch, levels))
        out["large_pooled"] = model.pool(*first, GOLDEN["large_boxes"][None], config.box.pool)
        return out

    return jax.tree.map(np.asarray, jax.jit(run)(model_of(), batch_of(case), stages, images))


def check_stage(case, name, ours, theirs=None, limit=1e-4):
    """Against the golden's array, whole or sampled."""
    theirs = of_case(case)[0][name] if theirs is None else theirs
    if theirs.ndim == 1:
        ours = sampled(name, ours, len(theirs))
    assert ours.shape == theirs.shape
    check(f"{case} {name}, relative", relative(ours, theirs), limit)


@cases
def test_input(case):
    stages, images = of_case(case)
    batch = batch_of(case)
    np.testing.assert_array_equal(batch.image_sizes, images["size"])
    assert batch.images.shape == tuple(stages["input_shape"])  # no side is rounded up
    np.testing.assert_array_equal(sampled("input", batch.images, 600), stages["input"])
    np.testing.assert_array_equal(batch.images.astype(np.float64).sum((1, 2)), stages["input_sum"])


@pytest.mark.slow
@cases
def test_features(case):
    for name in ("C4", "C4 on a larger canvas"):
        check_stage(case, name, results(case)[name], of_case(case)[0]["C4"])


@pytest.mark.slow
@cases
def test_rpn_head(case):
    for name in ("objectness", "deltas"):
        check_stage(case, name, results(case)[name])


@pytest.mark.slow
@cases
def test_anchors(case):
    for anchors in results(case)["anchors"]:
        np.testing.assert_array_equal(anchors, of_case(case)[0]["anchors"])


@pytest.mark.slow
@cases
def test_proposals(case):
    images, ours = of_case(case)[1], results(case)["proposals"]
    for i, (boxes, scores) in enumerate(zip(images["proposals"], images["proposal_logits"], strict=True)):
        assert ours.valid[i].sum() == len(boxes)
        np.testing.assert_array_equal(ours.scores[i, : len(boxes)], scores)
        check(f"{case} proposals, px", np.abs(ours.boxes[i, : len(boxes)] - boxes), 1e-3)


@pytest.mark.slow
@cases
@pytest.mark.parametrize("name", ["pooled", "res5", "mask_pooled", "mask_res5"])
def test_regions(case, name):
    """Proposals and final boxes, before and behind the ResNet's last stage."""
    ours, images = results(case)[name], of_case(case)[1]
    ours = ours.reshape(len(images[name]), -1, *ours.shape[1:])
    for mine, theirs, shape in zip(ours, images[name], images[f"{name}_shape"], strict=True):
        assert mine.shape == tuple(shape)
        check_stage(case, name, mine, theirs)


@pytest.mark.slow
@cases
def test_regions_of_large_boxes(case):
    ours = results(case)["large_pooled"]
    assert ours.shape == tuple(of_case(case)[0]["large_pooled_shape"])
    check_stage(case, "large_pooled", ours)


@pytest.mark.slow
@cases
def test_box_head(case):
    images = of_case(case)[1]
    for name in ("means", "logits", "box_deltas"):
        theirs = np.concatenate(images[name])
        check_stage(case, name, results(case)[name].reshape(theirs.shape), theirs)


@pytest.mark.slow
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


@pytest.mark.slow
@cases
def test_masks(case):
    """14 x 14, from the final boxes' own regions."""
    images, ours = of_case(case)[1], results(case)
    check_stage(case, "mask_logits", ours["mask_logits"], np.concatenate(images["mask_logits"]))
    check(f"{case} probabilities", np.abs(ours["masks"] - np.concatenate(images["masks"])), 1e-4)


@pytest.mark.slow
@cases
def test_postprocessing(case):
    images = of_case(case)[1]
    for i in range(len(SCENES[case])):
        image = {name: values[i] for name, values in images.items()}
        valid = np.ones(len(image["scores"]), bool)
        detections = Detections(image["boxes"], image["scores"], image["labels"], image["masks"], valid)
        found = postprocess(detections, image["size"], image["original"], CONFIG)
        np.testing.assert_array_equal(found["labels"], image["final_labels"])
        check(f"{case} final boxes, px", np.abs(found["boxes"] - image["final_boxes"]), 1e-4)
        theirs = np.unpackbits(image["final_masks"], count=found["masks"].size)
        different = found["masks"] != theirs.reshape(found["masks"].shape)
        check(f"{case} share of mask pixels that differ", different.mean(), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("masks", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_whole_model(masks):
    """Its own stages behind each other; Faster R-CNN has the same boxes and scores."""
    case = "pair"
    batch, images = batch_of(case), of_case(case)[1]
    ours = jax.jit(lambda model, batch: model.detect(batch))(model_of(masks), batch)
    for i, (boxes, scores, labels) in enumerate(
        zip(images["boxes"], images["scores"], images["labels"], strict=True)
    ):
        np.testing.assert_array_equal(ours.labels[i], labels)
        check("whole model, scores", np.abs(ours.scores[i] - scores), 1e-5)
        check("whole model, boxes, px", np.abs(ours.boxes[i] - boxes), 1e-2)
        if masks:
            check("whole model, masks", np.abs(ours.masks[i] - images["masks"][i]), 1e-3)
    assert (ours.masks is None) == (not masks)


@functools.cache
def training(masks):
    return gradient_function(model_of(masks))


@pytest.mark.parametrize(
    "case",
    # The cascades' losses and gradients, on a pyramid, are the quick ones.
    [pytest.param(case, marks=pytest.mark.slow) for case in ("objects", "one_empty", "without_masks")],
)
def test_losses_and_gradients(case):
    """The mask loss and the box loss share pooled regions and res5, whose gradients add up."""
    masks = case != "without_masks"
    scenes = [seeded_scene(*scene) for scene in SCENES["pair"]]
    if case == "one_empty":
        scenes[1] = seeded_scene(*scenes[1]["image"].shape[:2], []) | {"image": scenes[1]["image"]}
    targets = [
        {"boxes": s["boxes"], "labels": s["labels"], "polygons": seeded_polygons(s["boxes"])} for s in scenes
    ]
    config = CONFIG if masks else CONFIG.replace({"mask": None})
    batch = make_batch(config, [scene["image"] for scene in scenes], targets, max_objects=4)
    run, params = training(masks)
    gradient, losses = run(params, batch)
    assert set(losses) == set(LOSS_NAMES) - (set() if masks else {"loss_mask"})
    for name, ours in losses.items():
        check(f"{case}, {name}", abs(float(ours) / GOLDEN[f"train/{case}/{name}"] - 1), 1e-4)
    gradient = flat(gradient)
    prefix = f"train/{case}/gradient/"
    expected = {k.removeprefix(prefix): v for k, v in GOLDEN.items() if k.startswith(prefix)}
    assert {path_of(name) for name in expected} == gradient.keys()
    for name, (*theirs, norm) in expected.items():
        ours = to_detectron2(name, gradient[path_of(name)])
        check(f"{case}, {name}, norm", abs(np.linalg.norm(ours) / norm - 1), 1e-3)
        mine = sampled(name, ours, len(theirs))
        cosine = mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs)
        check(f"{case}, {name}, 1 - cosine", 1 - cosine, 1e-4)


def test_frozen_stages():
    """The stem and the first stage; never the regions' stage."""
    config = CONFIG.replace({"backbone.freeze_at": 2})
    model = nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0)))
    state = nnx.state(model, trainable(model))
    assert set(state["backbone"]["body"]) == {"layer2", "layer3"}
    assert set(state["trunk"]) == {"layer4"}
    frozen = set(nnx.to_flat_state(nnx.state(model, nnx.Param)).paths) - set(nnx.to_flat_state(state).paths)
    assert len(frozen) == 11


def test_names_go_both_ways():
    """Every array has a place, where the test expects it, and comes back bit by bit."""
    model = from_state_dict(WEIGHTS, CONFIG, "detectron2")
    mine = flat(nnx.state(model))
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(mine[path_of(name)], to_model(name, value))
    back = to_state_dict(model, "detectron2")
    assert back.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(back[name], value)


def test_arrays_show_the_structure():
    library = LIBRARIES["detectron2"]
    shown = library.structure(WEIGHTS)
    assert shown == config_structure(CONFIG)
    assert (shown["neck"], shown["trunk"], shown["backbone.outputs"]) == (None, "res5", (4,))


def test_a_file_is_loaded_with_a_preset_and_with_a_yaml(tmp_path):
    np.savez(tmp_path / "model_final.npz", **WEIGHTS)
    with pytest.raises(UserError, match="no preset has its structure"):
        load_detector(tmp_path / "model_final.npz")
    text, differences = export_settings(CONFIG, "detectron2")
    assert differences == ()
    (tmp_path / "c4.yaml").write_text(text)
    for config in (CONFIG, tmp_path / "c4.yaml"):
        model = load_detector(tmp_path / "model_final.npz", config)[0]
        assert model.config == CONFIG
        np.testing.assert_array_equal(
            model.trunk.layer4[0].conv1.kernel[...],
            WEIGHTS["roi_heads.res5.0.conv1.weight"].transpose(2, 3, 1, 0),
        )


def test_config_file(tmp_path):
    """What Detectron2 itself writes of the recorded config is read as the config of these tests."""
    (tmp_path / "config.yaml").write_text(str(GOLDEN["yaml"]))
    assert config_from_file(tmp_path / "config.yaml") == CONFIG


@pytest.mark.parametrize(
    ("preset", "lines"),
    [
        ("mask_rcnn_R_50_C4_3x", ["MASK_ON: True"]),
        ("faster_rcnn_R_101_C4_3x", ["MASK_ON: False", "RESNETS: {DEPTH: 101}"]),
    ],
)
def test_config_files_of_the_zoo(preset, lines, tmp_path):
    """Their own lines, upon the library's base."""
    text = "\n".join(["_BASE_: ../Base-RCNN-C4.yaml", "MODEL:", *(f"  {line}" for line in lines)])
    (tmp_path / "model.yaml").write_text(text)
    expected = model_config(f"detectron2/{preset}")
    assert config_from_file(tmp_path / "model.yaml") == expected
    written, differences = export_settings(expected, "detectron2")
    assert differences == () and "Res5ROIHeads" in written and "build_resnet_backbone" in written


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "BACKBONE: {NAME: build_resnet_fpn_backbone}",
            "NAME is 'build_resnet_fpn_backbone'; ",
        ),
        ("RESNETS: {OUT_FEATURES: [res5]}", r"MODEL.RESNETS.OUT_FEATURES is \['res5'\]; supported: "),
        ("RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64}", "DEPTH is 18; supported: 50, 101 or 152 with 'Res5"),
        ("RPN: {IN_FEATURES: [res5]}", r"MODEL.RPN.IN_FEATURES is \['res5'\]; supported: the same as "),
    ],
)
def test_backbones_that_do_not_belong_to_the_stage(settings, message, tmp_path):
    (tmp_path / "model.yaml").write_text(f"MODEL: {{{settings}}}")
    with pytest.raises(UserError, match=message):
        config_from_file(tmp_path / "model.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask.pool.size": 7}, "mask.pool and box.pool differ"),
        ({"backbone.outputs": (5,)}, "give it a ResNet whose outputs are"),
        ({"backbone.kind": "regnet"}, "the last stage of a ResNet, but the backbone is RegNetConfig"),
    ],
)
def test_settings_that_do_not_go_with_the_stage(changes, message):
    sizes = {"rpn.anchors.sizes": ((32.0,),) * 4} if "backbone.kind" in changes else {}
    with pytest.raises(ConfigError, match=message):
        CONFIG.replace(changes | sizes)


def test_other_libraries_have_no_such_model():
    with pytest.raises(UserError, match="cannot express this model: its trunk is 'res5', which no"):
        export_settings(CONFIG.replace({"background": "first"}), "torchvision")
    # MMDetection has the model, but not with few channels, nor with this order of anchors.
    with pytest.raises(UserError, match="cannot express this model: its trunk is not"):
        export_settings(CONFIG, "mmdet")


@pytest.mark.parametrize("layout", ["detectron2", "torchvision"])
@pytest.mark.slow
def test_imagenet_weights(layout, tmp_path):
    """The last stage of an ImageNet file goes to the regions' layers."""
    changes = {"backbone.depth": 18, "backbone.width": 8}
    whole = random_model(ModelConfig().replace(changes), seed=1)
    arrays = to_state_dict(whole, "torchvision")
    arrays = {k: v for k, v in arrays.items() if k.startswith("backbone.body.")}
    arrays = {k.removeprefix("backbone.body."): v for k, v in arrays.items()}
    if layout == "detectron2":
        arrays = {k: v for k, v in to_state_dict(
            random_model(ModelConfig().replace(changes | {"background": "last"}), seed=1), "detectron2"
        ).items() if k.startswith("backbone.bottom_up.")}  # fmt: skip
        arrays = {k.removeprefix("backbone.bottom_up."): v for k, v in arrays.items()}
    np.savez(tmp_path / "R-18.npz", **arrays)
    model = random_model(CONFIG.replace({"backbone.depth": 18}))
    report = load_backbone(model, tmp_path / "R-18.npz")
    body = flat(nnx.state(whole.backbone.body))
    mine = {**flat(nnx.state(model.backbone.body)), **flat(nnx.state(model.trunk))}
    assert mine.keys() == body.keys() and len(report.assigned) == len(body)
    for path, value in body.items():
        np.testing.assert_array_equal(mine[path], value)
