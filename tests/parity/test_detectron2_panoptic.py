"""Panoptic FPN against Detectron2's: semantic head, segments, losses and gradients.

What Detectron2 computed is in `goldens/detectron2_panoptic.npz` (see `record_detectron2_panoptic.py`). Its
settings are read from its own yaml.
"""

import json

import jax
import numpy as np
import pytest
from folders import GOLDENS
from goldens.seeded_weights import (
    seeded_panoptic_weight,
    seeded_polygons,
    seeded_scene,
    seeded_stuff,
)
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
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml_text
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.ops.semantic import pixel_labels

pytestmark = pytest.mark.usefixtures("highest_precision")
GOLDEN = np.load(GOLDENS / "detectron2_panoptic.npz")
READ = config_from_yaml_text(str(GOLDEN["yaml"]), "the yaml")
CONFIG = READ.replace({"rpn.crowd": "drop", "regions.crowd": "drop"})
WEIGHTS = {
    name: seeded_panoptic_weight(name, tuple(shape), "detectron2")
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}
SCENES = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]


@pytest.fixture(scope="module")
def model():
    return from_state_dict(WEIGHTS, CONFIG, "detectron2")


def batch_of():
    targets = [
        {
            "boxes": s["boxes"], "labels": s["labels"], "polygons": seeded_polygons(s["boxes"]),
            "semantic": seeded_stuff(s, STUFF),
        }
        for s in SCENES
    ]  # fmt: skip
    return make_batch(CONFIG, [s["image"] for s in SCENES], targets)


def test_settings_of_the_yaml():
    part = READ.semantic
    assert (part.dim, part.norm, len(part.stuff), part.things) == (32, "gn", STUFF, "first")
    assert (part.score_threshold, part.overlap_threshold, part.stuff_area) == (0.3, 0.5, 300)
    assert (part.loss_weight, part.loss_at, part.loss_count) == (0.5, "input", "labelled")


@pytest.mark.parametrize("number", range(4))
def test_combination(number):
    panoptic, segments = combined(number)
    np.testing.assert_array_equal(panoptic, GOLDEN[f"combined/{number}"])
    # Detectron2 counts stuff from 1, as things are 0.
    own = [[s.id, s.label + (not s.isthing), s.isthing] for s in segments]
    np.testing.assert_array_equal(own, GOLDEN[f"segments/{number}"])


def test_loss_of_given_logits():
    check_entropy(GOLDEN, CONFIG.semantic)


@pytest.mark.slow
def test_head(model):
    check_head(GOLDEN, model.semantic_head, 32)


def test_labels_follow_their_image():
    semantic = batch_of().targets.semantic
    for i, own in enumerate(semantic):
        theirs = GOLDEN[f"labels/{i}"]
        height, width = theirs.shape
        np.testing.assert_array_equal(own[:height, :width], theirs)
        assert (own[height:] == 255).all() and (own[:, width:] == 255).all()


def test_arrays_there_and_back(model):
    arrays = to_state_dict(model, "detectron2")
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
    table = LIBRARIES["detectron2"].table(CONFIG)
    check_all_gradients("detectron2", flat(gradient), GOLDEN, WEIGHTS, table, check_gradients)


@pytest.mark.slow  # as above
def test_panoptic_results(model):
    """Segments with their scores, and the segment of each pixel."""
    detect = jax.jit(lambda model, batch: model.detect(batch))
    predictor = jmr.Predictor(model)
    for i, scene in enumerate(SCENES):
        batch = make_batch(CONFIG, [scene["image"]])
        logits = np.asarray(detect(model, batch).semantic_logits[0])
        size, old = map(tuple, (batch.image_sizes[0].tolist(), scene["image"].shape[:2]))
        check_labels(f"semantic {i}", pixel_labels(logits, size, old, 4), GOLDEN[f"found/{i}/semantic"])
        out = predictor(scene["image"])
        check_labels(f"panoptic {i}", out["panoptic"], GOLDEN[f"found/{i}/panoptic"])
        theirs = GOLDEN[f"found/{i}/segments"]
        own = [[s["id"], s["category"], s["isthing"], s["score"] or 0] for s in out["segments"]]
        stuff = [c.id for c in predictor.stuff]
        expected = [
            [n, label if thing else stuff[int(label) - 1], thing, score] for n, label, thing, score in theirs
        ]
        np.testing.assert_allclose(own, expected, atol=1e-4)
        areas = np.bincount(out["panoptic"].ravel(), minlength=len(own) + 1)[1:]
        assert [s["area"] for s in out["segments"]] == areas.tolist()
