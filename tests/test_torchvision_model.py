"""A whole detector against torchvision's MaskRCNN: every stage, the losses, and each gradient.

``pytest -s`` prints the largest error of each stage; docs/parity.md has them.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from goldens.seeded_weights import sampled, seeded_detector_weight, seeded_scene

from jaxmaskrcnn.convert.tables import Row, Table, conv_kernel
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.postprocess import postprocess_batch
from jaxmaskrcnn.losses import LOSS_NAMES
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.presets import model_config

GOLDEN = np.load(Path(__file__).parent / "goldens" / "torchvision_model.npz")
SCENES = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]
# Where the second image has no objects, the first one's matching must not change.
CASES = {"objects": SCENES, "one_empty": [SCENES[0], seeded_scene(*SCENES[1]["image"].shape[:2], [])]}

# What the recording script builds: torchvision's conventions on a small network.
CONFIG = model_config(
    "torchvision/maskrcnn_resnet50_fpn", num_classes=3, backbone_depth=18, fpn_channels=32, freeze_at=0,
    anchor_sizes=(16, 32, 64, 128, 256), box_fc_dim=32, mask_convs=2, mask_dim=32,
    test_min_size=224, test_max_size=288, rpn_pre_nms_train=70, rpn_pre_nms_test=60, rpn_post_nms_train=150,
    rpn_post_nms_test=180, rpn_batch_size=64, roi_batch_size=200, roi_positive_fraction=0.04,
    detections_per_image=40,
)  # fmt: skip


def first_layer(weight):
    """torch flattens a region in the order (channel, y, x), this library in (y, x, channel)."""
    side = CONFIG.box_pool_size
    return conv_kernel(weight.reshape(len(weight), -1, side, side)).reshape(-1, len(weight))


def both(source, target, kernel=conv_kernel):
    return [Row(f"{source}.weight", f"{target}.kernel", kernel), Row(f"{source}.bias", f"{target}.bias")]


BODY, BLOCK = "backbone.body", "backbone.body.layer{stage}.{block}"
TABLE = Table(
    [
        Row(f"{BODY}.conv1.weight", f"{BODY}.conv1.kernel", conv_kernel),
        Row(f"{BODY}.bn1.{{norm}}", f"{BODY}.bn1.{{norm}}"),
        Row(f"{BLOCK}.conv{{k}}.weight", f"{BLOCK}.conv{{k}}.kernel", conv_kernel),
        Row(f"{BLOCK}.bn{{k}}.{{norm}}", f"{BLOCK}.bn{{k}}.{{norm}}"),
        Row(f"{BLOCK}.downsample.0.weight", f"{BLOCK}.downsample.conv.kernel", conv_kernel),
        Row(f"{BLOCK}.downsample.1.{{norm}}", f"{BLOCK}.downsample.bn.{{norm}}"),
        *both("backbone.fpn.inner_blocks.{i}.0", "backbone.fpn.inner_blocks.{i}.conv"),
        *both("backbone.fpn.layer_blocks.{i}.0", "backbone.fpn.layer_blocks.{i}.conv"),
        *both("rpn.head.conv.{i}.0", "rpn.convs.{i}.conv"),
        *both("rpn.head.cls_logits", "rpn.cls_logits"),
        *both("rpn.head.bbox_pred", "rpn.bbox_pred"),
        *both("roi_heads.box_head.fc6", "box_head.fcs.0", first_layer),
        *both("roi_heads.box_head.fc7", "box_head.fcs.1", np.transpose),
        *both("roi_heads.box_predictor.{name}", "box_head.{name}", np.transpose),
        *both("roi_heads.mask_head.{i}.0", "mask_head.convs.{i}.conv"),
        *both("roi_heads.mask_predictor.conv5_mask", "mask_head.deconv", lambda w: w.transpose(2, 3, 0, 1)),
        *both("roi_heads.mask_predictor.mask_fcn_logits", "mask_head.logits"),
    ],
    {
        "norm": {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
        "name": {"cls_score": "cls_score", "bbox_pred": "bbox_pred"},
    },
    [],
)
WEIGHTS = {
    name: seeded_detector_weight(name, tuple(shape))
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}


@pytest.fixture(scope="module", autouse=True)
def highest_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def model():
    graphdef, state = nnx.split(nnx.eval_shape(lambda: MaskRCNN(CONFIG, rngs=nnx.Rngs(0))))
    flat = {".".join(map(str, path)): (path, variable) for path, variable in nnx.to_flat_state(state)}
    shapes = {name: variable.shape for name, (_, variable) in flat.items()}
    values = TABLE.assign(WEIGHTS, shapes, "torchvision's names do not fit the model").values
    filled = [(path, variable.replace(jnp.asarray(values[name]))) for name, (path, variable) in flat.items()]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


@pytest.fixture(scope="module")
def batches(model):
    images = [scene["image"] for scene in SCENES]
    return {case: make_batch(model, images, targets, max_objects=5) for case, targets in CASES.items()}


@pytest.fixture(scope="module")
def stages(model, batches):
    """What every part puts out at test time."""

    @jax.jit
    def run(model, batch):
        levels = model.features(batch.images, batch.extents)
        objectness, deltas, anchors, proposals = model.propose(batch, levels)
        first = proposals.boxes[:, :20]
        logits, box_deltas = model.box_head(model.pool(batch, levels, first, CONFIG.box_pool_size))
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


def check(stage, errors, limit):
    """No error above the limit; ``pytest -s`` shows the largest."""
    worst = float(np.max(errors))
    print(f"{stage}: {worst:.1e} (limit {limit:.0e})")
    assert worst <= limit, stage


def relative(ours, theirs):
    """Errors relative to the largest value."""
    return np.abs(ours - theirs) / np.abs(theirs).max()


def test_input(batches):
    batch = batches["objects"]
    np.testing.assert_array_equal(batch.image_sizes, GOLDEN["image_sizes"])
    assert batch.images.shape == tuple(GOLDEN["input/shape"])
    check("input", np.abs(sampled("input", batch.images, 400) - GOLDEN["input/values"]), 1e-5)


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
    norms, cosines = [], []
    for name, weight in WEIGHTS.items():
        path, change = TABLE.translate(name)
        if path not in gradient:  # frozen batch norm
            continue
        # Samples were drawn in torch's layout.
        places = np.arange(weight.size).reshape(weight.shape)
        places = places if change is None else change(places)
        ours = np.empty(weight.size)
        ours[places.ravel()] = gradient[path].ravel()
        *expected, norm = GOLDEN[f"{case}/gradient/{name}"].astype(np.float64)
        values = sampled(name, ours, 20)
        norms.append(abs(np.linalg.norm(ours) / norm - 1))
        cosines.append(1 - values @ expected / np.linalg.norm(values) / np.linalg.norm(expected))
    assert len(norms) == len(gradient)
    check(f"{case}, norms of the gradients", norms, 1e-3)
    check(f"{case}, 1 - cosine of the gradients", cosines, 1e-4)
