"""Every stage of torchvision's MaskRCNN, given torchvision's own stage before it, for two models.

``v1`` is maskrcnn_resnet50_fpn and ``v2`` maskrcnn_resnet50_fpn_v2, both narrow; weights come in by
torchvision's names. Images lie on a canvas of 288 x 288, larger than what torchvision pads them to: what
is outside of an image's own extent must not show. ``pytest -s`` prints the largest errors; docs/parity.md
has them.

Shapes: two images a batch, h and w of a feature map, R regions of an image.
"""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import sampled, seeded_detector_weight, seeded_scene

from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.postprocess import postprocess, postprocess_batch
from jaxmaskrcnn.models.anchor_grids import image_anchors
from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.padding import inside
from jaxmaskrcnn.models.pooling import roi_geometry
from jaxmaskrcnn.models.proposals import select_proposals
from jaxmaskrcnn.ops import assign_levels
from jaxmaskrcnn.structures import Detections, Proposals
from jaxmaskrcnn.zoo.lookup import model_config

STRIDES = (4, 8, 16, 32, 64)  # of P2 to P6

pytestmark = [pytest.mark.usefixtures("highest_precision"), pytest.mark.slow]
GOLDEN = {version: np.load(GOLDENS / f"torchvision_stages_{version}.npz") for version in ("v1", "v2")}
SCENES = json.loads(str(GOLDEN["v1"]["scenes"]))
CANVAS = 288
# What shares a batch here. torchvision saw the pair together and each of the others alone.
BATCHES = {"pair": ["pair"], "singles": ["oblong", "grey"], "blank": ["blank", "blank"]}
FORCED = {"pair": "pair", "oblong": "singles"}  # what the stages were recorded for, and its batch
NARROW = {
    "num_classes": 3,
    "backbone.width": 4,
    "neck.channels": 16,
    "backbone.freeze_at": 0,
    "rpn.anchors.sizes": (16, 32, 64, 128, 256),
    "box.fc_dim": 32,
    "mask.dim": 16,
    "input.test_min_size": 224,
    "input.test_max_size": 288,
    "rpn.pre_nms_test": 60,
    "rpn.post_nms_test": 180,
    "detections.per_image": 40,
    "detections.score_threshold": 0.25,
}
CONFIGS = {
    "v1": model_config("torchvision/maskrcnn_resnet50_fpn", **NARROW),
    "v2": model_config("torchvision/maskrcnn_resnet50_fpn_v2", **NARROW, **{"box.conv_dim": 16}),
}
MASKS = 10  # of an image, whose masks were recorded


def image_of(run, scene):
    image = seeded_scene(*scene)["image"]
    if run == "grey":
        image = np.repeat(image[..., 1:2], 3, axis=2)
    return np.full_like(image, (124, 116, 104)) if run == "blank" else image


def weights_of(version):
    golden = GOLDEN[version]
    shapes = json.loads(str(golden["names"]))
    weights = {name: seeded_detector_weight(name, tuple(shape)) for name, shape in shapes.items()}
    factor, bias = json.loads(str(golden["classifier"]))
    weights["roi_heads.box_predictor.cls_score.weight"] *= np.float32(factor)
    weights["roi_heads.box_predictor.cls_score.bias"] = np.float32(bias)
    return weights


def batch_of(runs, config):
    """Batches of torchvision's own canvases, one after another on the larger canvas."""
    parts = [make_batch(config, [image_of(run, scene) for scene in SCENES[run]]) for run in runs]
    padded = [p._replace(images=grown(p.images, (CANVAS, CANVAS)), targets=np.zeros(0)) for p in parts]
    return jax.tree.map(lambda *x: np.concatenate(x), *padded)._replace(targets=None)


def grown(x, size, images=None):
    """[n, h, w, ...] with zeros at the lower right, and images of zeros up to a number."""
    pad = [(0, (images or len(x)) - len(x)), (0, size[0] - x.shape[1]), (0, size[1] - x.shape[2])]
    return np.pad(x, pad + [(0, 0)] * (x.ndim - 3))


def run_stage(layer, x, extents, stride):
    """One stage of a ResNet, from the stage before it."""
    mask_in = inside(extents, stride // 2, x.shape[1:3])
    mask = inside(extents, stride, tuple(-(-n // 2) for n in x.shape[1:3]))
    for block in layer:
        x, mask_in = block(x, mask_in, mask, False), mask
    return x


def programs(config):
    """Each stage as a compiled function, used for a stage alone and for the whole in a row."""

    def select(objectness, deltas, anchors, image_sizes):
        sizes = tuple((-(-CANVAS // s),) * 2 for s in STRIDES)
        return jax.vmap(
            lambda score, delta, anchor, size: select_proposals(
                score, delta, anchor, sizes, size, config.rpn, train=False
            )
        )(objectness, deltas, anchors, image_sizes)

    def levels_of(model, batch, boxes):
        scales, lowest, _ = roi_geometry(batch, STRIDES[:4], config.box.pool)
        levels = jax.vmap(
            lambda b, low: (
                assign_levels(b, rule=config.box.pool.level_rule, min_level=low, max_level=low + 3) - low
            )
        )(boxes, lowest)
        return scales, levels

    def anchors_of(extents):
        sizes = tuple((-(-CANVAS // s),) * 2 for s in STRIDES)
        return jax.vmap(lambda extent: image_anchors(sizes, STRIDES, extent, config.rpn.anchors))(extents)

    def detect(logits, deltas, proposals, sizes):
        return jax.vmap(lambda *x: select_detections(*x, config.classes, config.box, config.detections))(
            logits, deltas, proposals, sizes
        )

    def masks(model, pooled, labels):
        logits = model.mask_head(pooled)
        return logits, jax.nn.sigmoid(model.mask_head.of_class(logits, labels.reshape(-1)))

    return SimpleNamespace(
        stem=jax.jit(lambda model, images, extents: model.backbone.body(images, Pass(extents))[0]),
        stage=jax.jit(run_stage, static_argnums=3),
        fpn=jax.jit(lambda model, stages, extents: model.backbone.fpn(stages, Pass(extents))),
        rpn=jax.jit(lambda model, levels, extents: model.rpn(levels, Pass(extents))),
        anchors=jax.jit(anchors_of),
        select=jax.jit(select),
        levels=jax.jit(levels_of),
        pool=jax.jit(
            lambda model, batch, levels, boxes, part: model.pool(batch, levels, boxes, part), static_argnums=4
        ),
        box_head=jax.jit(lambda model, pooled: model.box_head(pooled)),
        detect=jax.jit(detect),
        masks=jax.jit(masks),
    )


@pytest.fixture(scope="module", params=["v1", "v2"])
def net(request):
    """A model, its compiled stages, and what torchvision's did."""
    config = CONFIGS[request.param]
    return SimpleNamespace(
        version=request.param,
        golden=GOLDEN[request.param],
        config=config,
        model=from_state_dict(weights_of(request.param), config, "torchvision"),
        run=programs(config),
        batches={name: batch_of(runs, config) for name, runs in BATCHES.items()},
    )


@pytest.fixture(scope="module", params=list(FORCED))
def forced(net, request):
    """The stages of one recorded batch, each from torchvision's own stage before it."""
    name = request.param
    batch = net.batches[FORCED[name]]

    def teacher(key):
        small = net.golden[f"{name}/{key}/rounded"].transpose(0, 2, 3, 1)
        return small.astype(np.float32) * net.golden[f"{name}/{key}/step"]

    def value(key):
        return net.golden[f"{name}/{key}"]

    stages, levels = (
        [grown(teacher(f"{x}{i}"), (CANVAS // 2**i,) * 2, 2) for i in range(2, 6)] for x in "CP"
    )
    levels.append(levels[-1][:, ::2, ::2])
    count = len(SCENES[name])
    proposals = np.zeros((2, 180, 4), np.float32)
    for i in range(count):
        proposals[i, : len(value(f"{i}/proposals"))] = value(f"{i}/proposals")
    return SimpleNamespace(
        net=net, name=name, batch=batch, count=count, teacher=teacher, value=value,
        stages=stages, levels=levels, proposals=proposals, anchors=net.run.anchors(batch.extents),
    )  # fmt: skip


def compare(case, key, ours, limit=1e-4):
    """An output against its recorded samples, inside of the extent that torchvision had."""
    key = f"{case.name}/{key}"
    shape, theirs = case.net.golden[f"{key}/shape"], case.net.golden[f"{key}/values"]
    ours = np.asarray(ours)[tuple(slice(n) for n in shape)]
    assert ours.shape == tuple(shape)
    check(f"{case.net.version} {key}", relative(sampled(key, ours, len(theirs)), theirs), limit)


def test_input(net):
    for name, runs in BATCHES.items():
        batch, slot = net.batches[name], 0
        for run in dict.fromkeys(runs):
            theirs, shape = (net.golden[f"{run}/input/{key}"] for key in ("values", "shape"))
            ours = batch.images[slot : slot + shape[0]]
            np.testing.assert_array_equal(
                batch.image_sizes[slot : slot + shape[0]], net.golden[f"{run}/sizes"]
            )
            np.testing.assert_array_equal(batch.extents[slot], shape[1:3])
            assert not ours[:, shape[1] :].any() and not ours[:, :, shape[2] :].any()
            inner = sampled(f"{run}/input", ours[:, : shape[1], : shape[2]], len(theirs))
            # A rounding error of the largest values; normalising alone is equal to the last bit.
            check(f"{net.version} {run}/input", np.abs(inner - theirs), 0 if run == "blank" else 2.5e-7)
            slot += shape[0]


def test_stages_of_the_backbone(forced):
    net, extents = forced.net, forced.batch.extents
    compare(forced, "C2", net.run.stem(net.model, forced.batch.images, extents))
    for i in (3, 4, 5):
        layer = getattr(net.model.backbone.body, f"layer{i - 1}")
        compare(forced, f"C{i}", net.run.stage(layer, forced.stages[i - 3], extents, 2**i))


def test_pyramid(forced):
    levels = forced.net.run.fpn(forced.net.model, forced.stages, forced.batch.extents)
    for i, level in enumerate(levels):
        compare(forced, f"P{i + 2}", level)


def test_anchors(forced):
    boxes, valid = forced.anchors
    for i in range(forced.count):
        np.testing.assert_array_equal(boxes[i][valid[i]], forced.value("anchors"))


def test_rpn_head(forced):
    objectness, deltas = forced.net.run.rpn(forced.net.model, forced.levels, forced.batch.extents)
    valid = np.asarray(forced.anchors.valid)[: forced.count]
    images = np.asarray(objectness)[: forced.count][valid].reshape(forced.count, -1)
    compare(forced, "objectness", images)
    compare(forced, "deltas", np.asarray(deltas)[: forced.count][valid].reshape(*images.shape, 4))


def test_proposals(forced):
    """The same anchors in the same order."""
    net, valid = forced.net, np.asarray(forced.anchors.valid)
    theirs = forced.value("objectness")
    # Cells outside of the extent have the best scores of all here, and must not be looked at.
    objectness = np.full(valid.shape, 1e3, np.float32)
    objectness[: forced.count][valid[: forced.count]] = theirs.ravel()
    deltas = np.zeros((*theirs.shape, 4), np.float32)
    deltas[best_of_each_level(theirs, forced)] = forced.value("best_deltas")
    all_deltas = np.zeros((*valid.shape, 4), np.float32)
    all_deltas[: forced.count][valid[: forced.count]] = deltas.reshape(-1, 4)
    found = net.run.select(objectness, all_deltas, forced.anchors, forced.batch.image_sizes)
    for i in range(forced.count):
        place, boxes = forced.value(f"{i}/proposal_places"), forced.value(f"{i}/proposals")
        ours = np.asarray(found.valid[i])
        assert ours.sum() == len(place) and len(set(theirs[i, place])) == len(place)
        # The scores are those of different anchors, so they tell which ones these are.
        np.testing.assert_array_equal(found.scores[i][ours], theirs[i, place])
        check(f"{net.version} {forced.name}/proposals, px", np.abs(found.boxes[i][ours] - boxes), 1e-2)


def best_of_each_level(objectness, forced):
    """The candidates, whose deltas were recorded."""
    height, width = forced.batch.extents[0]
    best, start = np.zeros(objectness.shape, bool), 0
    for stride in STRIDES:
        count = 3 * -(-height // stride) * -(-width // stride)
        part = objectness[:, start : start + count]
        limit = np.sort(part)[:, -min(60, count)]
        best[:, start : start + count] = part >= limit[:, None]
        start += count
    return best


def test_levels_of_regions(forced):
    net, special = forced.net, forced.net.golden["special"]
    boxes = np.zeros((2, 180 + len(special), 4), np.float32)
    for i in range(forced.count):
        own = forced.value(f"{i}/proposals")
        boxes[i, : len(own) + len(special)] = np.concatenate([own, special])
    scales, levels = net.run.levels(net.model, forced.batch, boxes)
    for i in range(forced.count):
        np.testing.assert_array_equal(scales[i], forced.value("scales"))
        expected = forced.value(f"{i}/levels")
        assert set(expected) == {0, 1, 2, 3}
        np.testing.assert_array_equal(levels[i, : len(expected)], expected)
    if forced.name == "oblong":  # torchvision takes 13 rows and a level of 8 for half the size
        assert scales[0, 0] == 0.5


def regions_of(forced):
    special = forced.net.golden["special"]
    regions = np.zeros((2, 180, 4), np.float32)
    for i in range(forced.count):
        regions[i, : 20 + len(special)] = np.concatenate([forced.proposals[i, :20], special])
    return regions, 20 + len(special)


def test_region_features_and_box_head(forced):
    net = forced.net
    regions, own = regions_of(forced)
    pooled = np.asarray(
        net.run.pool(net.model, forced.batch, forced.levels, regions, net.model.config.box.pool)
    )
    pooled = pooled.reshape(2, 180, 7, 7, -1)[: forced.count, :own].reshape(-1, 7, 7, pooled.shape[-1])
    compare(forced, "box features", pooled)
    theirs = np.zeros((2, 180, *pooled.shape[1:]), np.float32)
    theirs[: forced.count, :own] = forced.teacher("box features").reshape(
        forced.count, own, *pooled.shape[1:]
    )
    outputs = net.run.box_head(net.model, theirs.reshape(-1, *pooled.shape[1:]))
    for name, ours in zip(("region_logits", "region_deltas"), outputs, strict=True):
        ours = np.asarray(ours).reshape(2, 180, -1)[: forced.count, :own].reshape(forced.count * own, -1)
        check(f"{net.version} {forced.name}/{name}", relative(ours, forced.value(name)), 1e-4)


def test_detections(forced):
    """The same pairs of a proposal and a class, in the same order."""
    net = forced.net
    logits = np.zeros((2, 180, 4), np.float32)
    deltas = np.zeros((2, 180, 16), np.float32)
    valid = np.zeros((2, 180), bool)
    for i in range(forced.count):
        n = len(forced.value(f"{i}/proposals"))
        logits[i, :n], deltas[i, :n] = forced.value(f"{i}/logits"), forced.value(f"{i}/box_deltas")
        valid[i, :n] = True
    proposals = Proposals(forced.proposals, np.zeros(valid.shape, np.float32), valid)
    found = net.run.detect(logits, deltas.reshape(2, 180, 4, 4), proposals, forced.batch.image_sizes)
    found = jax.tree.map(np.asarray, found)
    for i in range(forced.count):
        ours, place = found.valid[i], forced.value(f"{i}/places")
        assert ours.sum() == len(place) > 0
        np.testing.assert_array_equal(found.labels[i][ours] + 1, forced.value(f"{i}/labels"))
        probability = np.exp(logits[i] - logits[i].max(-1, keepdims=True))
        probability = (probability / probability.sum(-1, keepdims=True)).ravel()
        # No other pair is as close to the score as the recorded one.
        distance = np.abs(found.scores[i][ours][:, None] - probability)
        np.testing.assert_array_equal(distance.argmin(1), place)
        label = f"{net.version} {forced.name}/detection"
        check(f"{label} scores", np.abs(found.scores[i][ours] - forced.value(f"{i}/scores")), 1e-5)
        check(f"{label} boxes, px", np.abs(found.boxes[i][ours] - forced.value(f"{i}/boxes")), 1e-2)


def test_mask_features_and_mask_head(forced):
    net = forced.net
    boxes, labels = np.zeros((2, 40, 4), np.float32), np.zeros((2, 40), np.int32)
    slots = np.zeros((2, 40), bool)
    for i in range(forced.count):
        n = min(MASKS, len(forced.value(f"{i}/boxes")))
        boxes[i, :n], slots[i, :n] = forced.value(f"{i}/boxes")[:n], True
        labels[i, :n] = forced.value(f"{i}/labels")[:n] - 1
    slots = slots.ravel()
    pooled = np.asarray(
        net.run.pool(net.model, forced.batch, forced.levels, boxes, net.model.config.mask.pool)
    )
    compare(forced, "mask features", pooled[slots])
    theirs = np.zeros_like(pooled)
    theirs[slots] = forced.teacher("mask features")
    logits, probs = net.run.masks(net.model, theirs, labels)
    compare(forced, "mask logits", np.asarray(logits)[slots])
    probs = np.asarray(probs).reshape(2, 40, 28, 28)
    for i in range(forced.count):
        expected = forced.value(f"{i}/probs")
        check(f"{net.version} {forced.name}/mask", np.abs(probs[i, : len(expected)] - expected), 1e-4)


def test_pasted_masks(forced):
    for i, (height, width, _) in enumerate(SCENES[forced.name]):
        probs = forced.value(f"{i}/probs")
        n = len(probs)
        found = Detections(
            boxes=forced.value(f"{i}/boxes")[:n],
            scores=forced.value(f"{i}/scores")[:n],
            labels=forced.value(f"{i}/labels")[:n] - 1,
            masks=probs,
            valid=np.ones(n, bool),
        )
        arguments = found, forced.batch.image_sizes[i], (height, width), forced.net.config
        soft, hard = postprocess(*arguments, masks="probs"), postprocess(*arguments)
        label = f"{forced.net.version} {forced.name}/pasted"
        check(f"{label} boxes, px", np.abs(soft["boxes"] - forced.value(f"{i}/pasted_boxes")[:n]), 1e-4)
        pixels = soft["masks"].ravel()[forced.value(f"{i}/pasted_index")]
        check(f"{label} probabilities", np.abs(pixels - forced.value(f"{i}/pasted_values")), 1e-5)
        expected = np.unpackbits(forced.value(f"{i}/pasted"), axis=-1, count=width).astype(bool)
        differs = np.flatnonzero(hard["masks"] != expected)
        assert expected.any() and set(differs) <= set(forced.value(f"{i}/pasted_unsure"))


@pytest.fixture(scope="module")
def detected(net):
    """Results of the whole row of stages, each from the one before it here."""
    results = {}
    for name, runs in BATCHES.items():
        batch, run, model = net.batches[name], net.run, net.model
        stages = [run.stem(model, batch.images, batch.extents)]
        for i in (3, 4, 5):
            layer = getattr(model.backbone.body, f"layer{i - 1}")
            stages.append(run.stage(layer, stages[-1], batch.extents, 2**i))
        levels = run.fpn(model, stages, batch.extents)
        objectness, deltas = run.rpn(model, levels, batch.extents)
        proposals = run.select(objectness, deltas, run.anchors(batch.extents), batch.image_sizes)
        logits, deltas = run.box_head(
            model, run.pool(model, batch, levels, proposals.boxes, model.config.box.pool)
        )
        found = run.detect(
            logits.reshape(2, 180, 4), deltas.reshape(2, 180, 4, 4), proposals, batch.image_sizes
        )
        _, masks = run.masks(
            model, run.pool(model, batch, levels, found.boxes, model.config.mask.pool), found.labels
        )
        found = found._replace(masks=masks.reshape(2, 40, 28, 28))
        images = postprocess_batch(found, batch.image_sizes, batch.original_sizes, net.config)
        places = [(run, i) for run in runs for i in range(len(SCENES[run]))]
        results |= dict(zip(places, images, strict=True))
    return results


def test_whole_model(net, detected):
    """Unrounded from image to detections, as a user of torchvision gets them."""
    for (run, i), ours in detected.items():
        boxes, scores, labels, areas = (
            net.golden[f"{run}/{i}/whole_{key}"] for key in ("boxes", "scores", "labels", "areas")
        )
        label = f"{net.version} {run} {i}, whole:"
        print(f"{label} {len(labels)} detections")
        np.testing.assert_array_equal(ours["labels"], labels)
        if not len(labels):
            continue
        check(f"{label} scores", np.abs(ours["scores"] - scores), 1e-4)
        check(f"{label} boxes, px", np.abs(ours["boxes"] - boxes), 1e-2)
        check(f"{label} areas of masks, px", np.abs(ours["masks"].sum((1, 2)) - areas), 1)
    assert len(detected) == 5
    if net.version == "v1":
        assert not len(detected["blank", 0]["labels"])


@pytest.mark.parametrize("size", [(800, 1344), (1312, 864)])
def test_anchors_of_full_size_images(size):
    """Strides of P6 of 61 and 64, and of 62 and 61."""
    height, width = size
    config = model_config("torchvision/maskrcnn_resnet50_fpn")
    sizes = tuple((-(-height // s), -(-width // s)) for s in STRIDES)
    boxes = np.asarray(
        jax.jit(lambda extent: image_anchors(sizes, STRIDES, extent, config.rpn.anchors).boxes)(
            np.array(size)
        )
    )
    golden = GOLDEN["v1"]
    np.testing.assert_array_equal(
        np.concatenate([boxes[:12], boxes[-12:]]), golden[f"anchors {height} {width}/ends"]
    )
    place = np.arange(1, len(boxes) + 1) % 65521
    total = (place[:, None] * boxes.astype(np.int64)).sum(0)
    np.testing.assert_array_equal(total, golden[f"anchors {height} {width}"])
