"""A whole detector against torchvision's MaskRCNN: every stage, the losses, and each gradient.

``pytest -s`` prints the largest error of each stage; docs/parity.md has them.
"""

import json

import jax
import numpy as np
import pytest
from flax import nnx
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import sampled, seeded_detector_weight, seeded_scene

from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.postprocess import postprocess_batch
from jaxmaskrcnn.losses import LOSS_NAMES
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")
GOLDEN = np.load(GOLDENS / "torchvision_model.npz")
SCENES = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]
# Where the second image has no objects, the first one's matching must not change.
FIELDS = ("boxes", "labels", "masks")
CASES = {"objects": SCENES, "one_empty": [SCENES[0], seeded_scene(*SCENES[1]["image"].shape[:2], [])]}

# What the recording script builds: torchvision's conventions on a small network.
CONFIG = model_config(
    "torchvision/maskrcnn_resnet50_fpn",
    num_classes=3,
    **{
        "backbone.depth": 18,
        "neck.channels": 32,
        "backbone.freeze_at": 0,
        "rpn.anchors.sizes": (16, 32, 64, 128, 256),
        "box.fc_dim": 32,
        "mask.convs": 2,
        "mask.dim": 32,
        "input.test_min_size": 224,
        "input.test_max_size": 288,
        "rpn.pre_nms_train": 70,
        "rpn.pre_nms_test": 60,
        "rpn.post_nms_train": 150,
        "rpn.post_nms_test": 180,
        "rpn.batch_size": 64,
        "regions.batch_size": 200,
        "regions.positive_fraction": 0.04,
        "detections.per_image": 40,
    },
)


WEIGHTS = {
    name: seeded_detector_weight(name, tuple(shape))
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}


@pytest.fixture(scope="module")
def model():
    return from_state_dict(WEIGHTS, CONFIG, "torchvision")


@pytest.fixture(scope="module")
def batches(model):
    images = [scene["image"] for scene in SCENES]
    cases = {
        case: [{name: scene[name] for name in FIELDS} for scene in scenes] for case, scenes in CASES.items()
    }
    return {case: make_batch(model, images, targets, max_objects=5) for case, targets in cases.items()}


@pytest.fixture(scope="module")
def stages(model, batches):
    """What every part puts out at test time."""

    @jax.jit
    def run(model, batch):
        levels = model.features(batch.images, Pass(batch.extents))
        objectness, deltas, anchors, proposals = model.propose(batch, levels)
        first = proposals.boxes[:, :20]
        logits, box_deltas = model.box_head(model.pool(batch, levels, first, CONFIG.box.pool))
        return {
            "levels": levels,
            "objectness": objectness,
            "deltas": deltas,
            "anchors": anchors.boxes,
            "proposals": proposals,
            "logits": logits.reshape(*first.shape[:2], -1),
            "box_deltas": box_deltas.reshape(*first.shape[:2], -1),
            "detections": model.detect(batch),
        }

    return jax.tree.map(np.asarray, run(model, batches["objects"]._replace(targets=None)))


@pytest.fixture(scope="module")
def trained(model, batches):
    """The losses, and the gradient of their sum by this library's paths."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(params, batch):
        def total(params):
            losses = nnx.merge(graphdef, params, rest).losses(batch, None)
            return sum(losses.values()), losses

        return jax.grad(total, has_aux=True)(params)

    results = {}
    for case, batch in batches.items():
        gradient, losses = run(params, batch)
        flat = {".".join(map(str, path)): np.asarray(v[...]) for path, v in nnx.to_flat_state(gradient)}
        results[case] = ({name: float(v) for name, v in losses.items()}, flat)
    return results


def test_input(batches):
    batch = batches["objects"]
    np.testing.assert_array_equal(batch.image_sizes, GOLDEN["image_sizes"])
    assert batch.images.shape == tuple(GOLDEN["input/shape"])
    check("input", np.abs(sampled("input", batch.images, 400) - GOLDEN["input/values"]), 1e-6)


def test_features_and_rpn_head(stages):
    outputs = {f"P{i + 2}": level for i, level in enumerate(stages["levels"])}
    outputs |= {"objectness": stages["objectness"], "deltas": stages["deltas"]}
    for name, ours in outputs.items():
        assert ours.shape == tuple(GOLDEN[f"{name}/shape"])
        check(name, relative(sampled(name, ours, 400), GOLDEN[f"{name}/values"]), 1e-4)


def test_anchors(stages):
    for anchors in stages["anchors"]:
        np.testing.assert_array_equal(np.concatenate([anchors[:12], anchors[-12:]]), GOLDEN["anchors"])


@pytest.mark.parametrize("i", range(len(SCENES)))
def test_proposals_and_box_head(stages, i):
    expected = GOLDEN[f"{i}/proposals"]
    assert stages["proposals"].valid[i].sum() == len(expected)
    check("proposals, px", np.abs(stages["proposals"].boxes[i, : len(expected)] - expected), 1e-2)
    for name in ("logits", "box_deltas"):
        check(f"box head, {name}", relative(stages[name][i], GOLDEN[f"{i}/{name}"]), 1e-4)


@pytest.mark.parametrize("i", range(len(SCENES)))
def test_detections(stages, batches, i):
    batch = batches["objects"]
    found = postprocess_batch(
        stages["detections"], batch.image_sizes, batch.original_sizes, CONFIG, masks="probs"
    )[i]
    np.testing.assert_array_equal(found["labels"], GOLDEN[f"{i}/labels"])  # the count as well
    check("detection scores", np.abs(found["scores"] - GOLDEN[f"{i}/scores"]), 1e-4)
    check("detection boxes, px", np.abs(found["boxes"] - GOLDEN[f"{i}/boxes"]), 1e-2)
    pixels = found["masks"][:5].ravel()[GOLDEN[f"{i}/mask_index"]]
    check("masks", np.abs(pixels - GOLDEN[f"{i}/mask_values"]), 1e-3)


@pytest.mark.parametrize("case", CASES)
def test_losses(trained, case):
    losses, _ = trained[case]
    assert set(losses) == set(LOSS_NAMES)
    for name, ours in losses.items():
        check(f"{case}, {name}", abs(ours / GOLDEN[f"{case}/{name}"] - 1), 1e-4)


@pytest.mark.parametrize("case", CASES)
def test_gradients(trained, case):
    _, gradient = trained[case]
    table = LIBRARIES["torchvision"].table(CONFIG)
    norms, cosines = [], []
    for name, weight in WEIGHTS.items():
        path, transform = table.translate(name)
        if path not in gradient:  # frozen batch norm
            continue
        # Samples were drawn in torch's layout.
        places = transform.to_model(np.arange(weight.size).reshape(weight.shape))
        ours = np.empty(weight.size)
        ours[places.ravel()] = gradient[path].ravel()
        *expected, norm = GOLDEN[f"{case}/gradient/{name}"].astype(np.float64)
        values = sampled(name, ours, 20)
        norms.append(abs(np.linalg.norm(ours) / norm - 1))
        cosines.append(1 - values @ expected / np.linalg.norm(values) / np.linalg.norm(expected))
    assert len(norms) == len(gradient)
    check(f"{case}, norms of the gradients", norms, 1e-3)
    check(f"{case}, 1 - cosine of the gradients", cosines, 1e-4)
