"""Mask Scoring R-CNN against MMDetection: its heads with given maps and boxes, and a narrow detector.

What MMDetection computed is in `goldens/mmdet_mask_scoring.npz` (see `record_mmdet_mask_scoring.py`). "head"
has few layers and settings other than the defaults, "model" is ms-rcnn_r50_fpn on a ResNet-18. ``pytest -s``
prints the largest error of each stage.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from folders import GOLDENS
from golden_helpers import check, relative
from goldens import point_rend_case as case
from goldens.seeded_weights import sampled, seeded_mask_scoring_weight, seeded_scene
from training_helpers import check_gradients, flat, gradient_function

from jaxmaskrcnn import losses
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text
from jaxmaskrcnn.convert.state_dict import from_state_dict, set_arrays, to_state_dict, variables_by_path
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.losses.mask_scoring import mask_ious, share_in_boxes
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.mask_scoring import MaskScoringHead
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.structures import Batch, Targets

pytestmark = pytest.mark.usefixtures("highest_precision")
FIRST = [len(regions) for _, _, regions in case.IMAGES]  # regions of each image


@functools.cache
def golden(variant):
    every = np.load(GOLDENS / "mmdet_mask_scoring.npz")
    return {k.removeprefix(f"{variant}/"): every[k] for k in every.files if k.startswith(f"{variant}/")}


@functools.cache
def config_of(variant):
    config = config_from_mmdet_text(str(golden(variant)["config"]), "the config")
    return config.replace({"rpn.crowd": "drop", "regions.crowd": "drop"})


@functools.cache
def weights(variant):
    names = json.loads(str(golden(variant)["names"]))
    return {name: seeded_mask_scoring_weight(name, tuple(shape)) for name, shape in names.items()}


def padded(arrays, slots=4):
    """Arrays of the images' regions, [R, ...] each, as one with further slots."""
    return np.stack([np.pad(x, [(0, slots - len(x))] + [(0, 0)] * (x.ndim - 1)) for x in arrays])


def valid(array):
    """The regions of an array with slots."""
    return np.concatenate([np.asarray(x)[:n] for x, n in zip(array, FIRST, strict=True)])


@functools.cache
def head():
    """The head with the recorded weights."""
    config, holder = config_of("head"), nnx.Module()
    holder.mask_head = nnx.eval_shape(
        lambda: MaskScoringHead(config.mask, case.CHANNELS, config.classes, rngs=nnx.Rngs(0))
    )
    shapes = {path: variable.shape for path, variable in variables_by_path(holder).items()}
    values = LIBRARIES["mmdet"].table(config).assign(weights("head"), shapes, "the head").values
    set_arrays(holder, {path: jnp.asarray(value) for path, value in values.items()})
    return holder.mask_head


@functools.cache
def given():
    """The batch and the regions that the recording script gave the heads."""
    sizes, scenes = np.array([size for size, _, _ in case.IMAGES]), case.scenes()
    masks = np.zeros((len(sizes), 4, *case.CANVAS), bool)
    for i, scene in enumerate(scenes):
        masks[i, : len(scene["masks"]), : sizes[i][0], : sizes[i][1]] = scene["masks"]
    rows = padded([scene["boxes"] for scene in scenes]), padded([scene["labels"] for scene in scenes])
    there = padded([np.ones(len(scene["boxes"]), bool) for scene in scenes])
    targets = Targets(*rows, pack_masks(masks), np.zeros_like(there), there)
    images, extents = np.zeros((len(sizes), *case.CANVAS, 3), np.float32), np.tile(case.CANVAS, (2, 1))
    batch = Batch(images, sizes, extents, sizes, np.arange(2), np.ones(2, bool), targets)
    boxes, objects, labels = zip(*(case.regions(i, "mmdet") for i in range(2)), strict=True)
    there = padded([np.ones(n, bool) for n in FIRST])
    regions = losses.Regions(padded(boxes), padded(labels), padded(objects), there, there)
    return jax.tree.map(jnp.asarray, (batch, regions))


@functools.cache
def trained_heads():
    """Losses, gradients for the parameters and the maps, masks and their IoUs."""
    batch, regions = given()
    graphdef, state = nnx.split(head())

    @jax.jit
    def run(state, levels):
        def total(state, levels):
            own, pooler = nnx.merge(graphdef, state), Pooler(batch, levels, case.STRIDES)
            terms = own.loss_terms(pooler, regions, Pass())
            values = losses.reduce_terms(jax.tree.map(jnp.sum, terms))
            pooled = pooler(regions.boxes, own.config.pool)
            masks = own.of_regions(pooled, regions)
            flat_masks = masks.reshape(-1, *masks.shape[2:])
            ious = own.iou(pooled, flat_masks, regions.labels.reshape(-1)).reshape(regions.valid.shape)
            return sum(values.values()), (values, masks, ious)

        return jax.grad(total, (0, 1), has_aux=True)(state, levels)

    return run(state, [jnp.asarray(x) for x in case.levels()])


@pytest.mark.slow  # as all that runs the networks
def test_masks_and_their_ious():
    _, (_, masks, ious) = trained_heads()
    recorded, labels = golden("head"), valid(given()[1].labels)
    check("masks, relative", relative(valid(masks), recorded["masks"]), 1e-4)
    theirs = recorded["ious"][np.arange(len(labels)), labels]
    check("predicted IoUs", np.abs(valid(ious) - theirs), 1e-5)
    assert np.ptp(theirs) > 0.05


@pytest.mark.slow
def test_ious_that_are_learned():
    """From MMDetection's own masks."""
    batch, regions = given()
    config, theirs = config_of("head").mask, golden("head")
    assert (config.iou_threshold, config.iou_loss_weight, config.iou_convs, config.iou_fcs) == (
        0.25,
        0.7,
        2,
        1,
    )
    ours, first = [], 0
    for i, count in enumerate(FIRST):
        own = jax.tree.map(lambda x, i=i, n=count: x[i][:n], regions)
        targets = jax.tree.map(lambda x, i=i: x[i], batch.targets)
        expected = losses.mask_head_targets(own, targets, 28, case.CANVAS[1], batch.image_sizes[i], config)
        shares = share_in_boxes(targets.masks[own.matched], case.CANVAS[1], own.boxes)
        masks = theirs["masks"][first : first + count] > config.iou_threshold
        ours.append(mask_ious(jnp.asarray(masks), expected, shares))
        first += count
    check("true IoUs", np.abs(np.concatenate(ours) - theirs["targets"]), 1e-6)
    assert np.ptp(theirs["targets"]) > 0.1


@pytest.mark.slow
def test_losses_and_gradients_of_the_heads():
    (gradient, of_maps), (values, _, _) = trained_heads()
    recorded = golden("head")
    assert values.keys() == {"loss_mask", "loss_mask_iou"}
    for name, value in values.items():
        check(name, abs(float(value) / recorded[f"losses/{name}"] - 1), 1e-4)
    expected = {k.removeprefix("gradient/"): v for k, v in recorded.items() if k.startswith("gradient/")}
    ours = {f"mask_head.{path}": value for path, value in flat(gradient).items()}
    check_gradients("heads", ours, expected, weights("head"), LIBRARIES["mmdet"].table(config_of("head")))
    for i, own in enumerate(of_maps):
        if f"p{i + 2}" not in expected:
            assert not np.asarray(own).any()
            continue
        *theirs, norm = expected[f"p{i + 2}"]
        mine = sampled(f"p{i + 2}", np.asarray(own), len(theirs))
        if norm:
            check(f"gradient of P{i + 2}", np.abs(mine - theirs) / np.abs(theirs).max(), 1e-4)
            assert abs(np.linalg.norm(own) / norm - 1) < 1e-4


@functools.cache
def detector():
    return from_state_dict(weights("model"), config_of("model"), "mmdet")


def scenes():
    return [seeded_scene(*scene) for scene in json.loads(str(golden("model")["scenes"]))]


def test_names_go_both_ways():
    """Every array comes back bit by bit, and the arrays show the structure."""
    back, own = to_state_dict(detector(), "mmdet"), weights("model")
    assert back.keys() == own.keys()
    assert all(np.array_equal(back[name], value) for name, value in own.items())
    norm = {"backbone.norm": "bn"}  # arrays do not tell whether statistics are fixed
    assert LIBRARIES["mmdet"].structure(own) == config_structure(config_of("model").replace(norm))


@pytest.mark.slow  # two minutes of compilation
def test_losses_and_gradients():
    """From images."""
    recorded, config = golden("model"), config_of("model")
    targets = [{k: s[k] for k in ("boxes", "labels", "masks")} for s in scenes()]
    batch = make_batch(config, [s["image"] for s in scenes()], targets)
    run, params = gradient_function(detector())
    gradient, values = run(params, batch)
    assert len(values) == 6
    for name, value in values.items():
        check(name, abs(float(value) / recorded[f"losses/{name}"] - 1), 1e-4)
    expected = {k.removeprefix("gradient/"): v for k, v in recorded.items() if k.startswith("gradient/")}
    table = LIBRARIES["mmdet"].table(config)
    ours = {path: value for path, value in flat(gradient).items() if value.any()}
    own = {name: x for name, x in weights("model").items() if name in expected and expected[name][-1]}
    check_gradients("model", ours, expected, own, table)


@pytest.mark.slow  # as above
def test_detections():
    """MMDetection leaves them in the order of the scores of their classes; here the best come first."""
    recorded, config = golden("model"), config_of("model")
    predictor = Predictor(detector(), config.detections.score_threshold)
    for i, scene in enumerate(scenes()):
        ours = predictor(scene["image"])
        order = np.argsort(-recorded[f"found/{i}/scores"], kind="stable")
        theirs = {
            name: recorded[f"found/{i}/{name}"][order] for name in ("boxes", "scores", "labels", "masks")
        }
        masks = np.unpackbits(theirs["masks"], axis=-1, count=scene["image"].shape[1]).astype(bool)
        check("boxes, px", np.abs(ours["boxes"] - theirs["boxes"]), 0.05)
        check("scores", np.abs(ours["scores"] - theirs["scores"]), 1e-4)
        np.testing.assert_array_equal(ours["labels"], theirs["labels"])
        mine = ours["masks"]
        overlap = (mine & masks).sum((1, 2)) / np.maximum((mine | masks).sum((1, 2)), 1)
        check("1 - IoU of masks", 1 - overlap, 5e-3)
        assert (np.diff(ours["scores"]) <= 0).all() and (order != np.arange(len(order))).any()
