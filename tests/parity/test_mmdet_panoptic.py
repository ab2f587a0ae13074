"""Panoptic FPN against MMDetection's: semantic head, segments, losses and gradients.

What MMDetection computed is in `goldens/mmdet_panoptic.npz` (see `record_mmdet_panoptic.py`). Its settings
are read from its own config.
"""

import json

import jax
import numpy as np
import pytest
from folders import GOLDENS
from goldens.seeded_weights import seeded_panoptic_weight, seeded_scene, seeded_stuff
from parity.panoptic_golden import (
    STUFF,
    check_all_gradients,
    check_entropy,
    check_head,
    check_labels,
    combined,
)
from training_helpers import check, check_gradients, flat, gradient_function

import jaxmaskrcnn as jmr
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.ops.semantic import pixel_labels

# Detectron2's Panoptic FPN is compared in every run, this one with the slow tests.
pytestmark = [pytest.mark.usefixtures("highest_precision"), pytest.mark.slow]
GOLDEN = np.load(GOLDENS / "mmdet_panoptic.npz")
CONFIG = config_from_mmdet_text(str(GOLDEN["config"]), "the config")
WEIGHTS = {
    name: seeded_panoptic_weight(name, tuple(shape), "mmdet")
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}
SCENES = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]
THINGS, NOTHING = 3, 3 + STUFF


@pytest.fixture(scope="module")
def model():
    return from_state_dict(WEIGHTS, CONFIG, "mmdet")


def batch_of():
    targets = [
        {**{name: s[name] for name in ("boxes", "labels", "masks")}, "semantic": seeded_stuff(s, STUFF)}
        for s in SCENES
    ]
    return make_batch(CONFIG, [s["image"] for s in SCENES], targets)


def with_their_numbers(panoptic, segments, label_of):
    """Our map in MMDetection's numbers: a thing's label and 1000 times its number, or stuff's label."""
    theirs = np.full(panoptic.shape, NOTHING)
    for number, (segment, thing) in enumerate(segments, 1):
        theirs[panoptic == segment] = label_of[number - 1] + (1000 * number if thing else THINGS)
    return theirs


def test_settings_of_the_config():
    part = CONFIG.semantic
    assert (part.dim, part.norm, len(part.stuff), part.things) == (32, "gn", STUFF, "last")
    assert (part.score_threshold, part.overlap_threshold, part.stuff_area) == (0, 0.5, 300)
    assert (part.loss_weight, part.loss_at, part.loss_count) == (0.5, "map", "all")
    found = CONFIG.detections
    assert (found.score_threshold, found.nms_threshold, found.nms_scope) == (0.3, 0.5, "image")


@pytest.mark.parametrize("number", range(4))
def test_combination(number):
    panoptic, segments = combined(number)
    ours = with_their_numbers(panoptic, [(s.id, s.isthing) for s in segments], [s.label for s in segments])
    np.testing.assert_array_equal(ours, GOLDEN[f"combined/{number}"])


def test_loss_of_given_logits():
    check_entropy(GOLDEN, CONFIG.semantic)


def test_head(model):
    check_head(GOLDEN, model.semantic_head, 16)


def test_arrays_there_and_back(model):
    arrays = to_state_dict(model, "mmdet")
    assert arrays.keys() == WEIGHTS.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, WEIGHTS[name])


@pytest.mark.slow  # a minute of compilation
def test_losses_and_gradients(model):
    run, params = gradient_function(model)
    gradient, losses = run(params, batch_of())
    assert len(losses) == 6
    for name, ours in losses.items():
        check(name, abs(float(ours) / GOLDEN[f"losses/{name}"] - 1), 1e-4)
    table = LIBRARIES["mmdet"].table(CONFIG)
    check_all_gradients("mmdet", flat(gradient), GOLDEN, WEIGHTS, table, check_gradients)


@pytest.mark.slow  # as above
def test_panoptic_results(model):
    """Detections, and the segment of each pixel."""
    detect = jax.jit(lambda model, batch: model.detect(batch))
    predictor = jmr.Predictor(model)
    stuff = {c.id: i for i, c in enumerate(predictor.stuff)}
    things = {c.id: i for i, c in enumerate(predictor.categories)}
    for i, scene in enumerate(SCENES):
        batch = make_batch(CONFIG, [scene["image"]])
        logits = np.asarray(detect(model, batch).semantic_logits[0])
        size, old = map(tuple, (batch.image_sizes[0].tolist(), scene["image"].shape[:2]))
        check_labels(f"semantic {i}", pixel_labels(logits, size, old, 4), GOLDEN[f"found/{i}/semantic"])
        out = predictor(scene["image"])
        assert len(out["scores"]) == len(GOLDEN[f"found/{i}/scores"]) > 10
        check("scores", np.abs(out["scores"] - GOLDEN[f"found/{i}/scores"]), 1e-4)
        check("boxes", np.abs(out["boxes"] - GOLDEN[f"found/{i}/boxes"]), 0.05)
        labels = [(things if s["isthing"] else stuff)[s["category"]] for s in out["segments"]]
        ours = with_their_numbers(out["panoptic"], [(s["id"], s["isthing"]) for s in out["segments"]], labels)
        check_labels(f"panoptic {i}", ours, GOLDEN[f"found/{i}/panoptic"])
