"""PointRend against Detectron2 and MMDetection: each stage gets the library's own previous one.

What the libraries computed is in `goldens/detectron2_point_rend.npz` and `goldens/mmdet_point_rend.npz` (see
the scripts ``record_*_point_rend.py``). "head" has the settings of their models, "other" different ones.
``pytest -s`` prints the largest error of each stage.
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
from goldens.seeded_weights import sampled, seeded_scene
from training_helpers import check_gradients, flat, gradient_function

from jaxmaskrcnn import losses
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml_text
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text
from jaxmaskrcnn.convert.state_dict import from_state_dict, set_arrays, variables_by_path
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.heads.point_rend import PointRendHead, of_class
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.ops.subdivision import subdivide, uncertain_points
from jaxmaskrcnn.structures import Batch, Detections, Targets

pytestmark = pytest.mark.usefixtures("highest_precision")
MODELS = [("detectron2", "other"), ("detectron2", "head"), ("mmdet", "other"), ("mmdet", "head")]
SLOW = [pytest.param(*x, marks=pytest.mark.slow if i else ()) for i, x in enumerate(MODELS)]
each = pytest.mark.parametrize("library, variant", SLOW)
FIRST = [len(regions) for _, _, regions in case.IMAGES]  # regions of each image


@functools.cache
def golden(library, variant):
    every = np.load(GOLDENS / f"{library}_point_rend.npz")
    return {k.removeprefix(f"{variant}/"): every[k] for k in every.files if k.startswith(f"{variant}/")}


@functools.cache
def config_of(library, variant):
    given = golden(library, variant)
    if library == "detectron2":
        config = config_from_yaml_text(str(given["yaml"]), "the yaml")
    else:
        config = config_from_mmdet_text(str(given["config"]), "the config")
    return config.replace({"rpn.crowd": "drop", "regions.crowd": "drop"})


def given_points(points):
    """A class of heads that learn from these points."""

    class GivenPoints(PointRendHead):
        def draw_points(self, coarse, keys):
            return jnp.asarray(points)

    return GivenPoints


@functools.cache
def head_of(library, variant):
    """The head with the recorded weights, and these by the library's names."""
    config, names = config_of(library, variant), json.loads(str(golden(library, variant)["names"]))
    weights = {name: case.seeded_point_rend_weight(name, tuple(shape)) for name, shape in names.items()}
    holder, kind = nnx.Module(), given_points(by_image(golden(library, variant)["points"]))
    holder.mask_head = nnx.eval_shape(
        lambda: kind(config.mask, case.CHANNELS, config.classes, rngs=nnx.Rngs(0))
    )
    shapes = {path: variable.shape for path, variable in variables_by_path(holder).items()}
    table = LIBRARIES[library].table(config)
    values = table.assign(weights, shapes, "the head").values
    set_arrays(holder, {path: jnp.asarray(value) for path, value in values.items()})
    back = table.export(values)
    assert back.keys() == weights.keys()
    assert all(np.array_equal(back[name], weights[name]) for name in weights)
    return holder.mask_head, weights


def padded(arrays, slots=4):
    """Arrays of the images' regions, [R, ...] each, as one with further slots."""
    return np.stack([np.pad(x, [(0, slots - len(x))] + [(0, 0)] * (x.ndim - 1)) for x in arrays])


def by_image(array):
    return padded(np.split(array, np.cumsum(FIRST)[:-1]))


def valid(array):
    """The regions of an array with slots."""
    return np.concatenate([np.asarray(x)[:n] for x, n in zip(array, FIRST, strict=True)])


def batch_of():
    sizes = np.array([size for size, _, _ in case.IMAGES])
    scenes, extents = case.scenes(), np.tile(case.CANVAS, (len(sizes), 1))
    masks = np.zeros((len(sizes), 4, *case.CANVAS), bool)
    for i, scene in enumerate(scenes):
        masks[i, : len(scene["masks"]), : sizes[i][0], : sizes[i][1]] = scene["masks"]
    rows = padded([scene["boxes"] for scene in scenes]), padded([scene["labels"] for scene in scenes])
    there = padded([np.ones(len(scene["boxes"]), bool) for scene in scenes])
    targets = Targets(*rows, pack_masks(masks), np.zeros_like(there), there)
    images = np.zeros((len(sizes), *case.CANVAS, 3), np.float32)
    return jax.tree.map(
        jnp.asarray, Batch(images, sizes, extents, sizes, np.arange(2), np.ones(2, bool), targets)
    )


def regions_of(library):
    boxes, objects, labels = zip(*(case.regions(i, library) for i in range(2)), strict=True)
    there = padded([np.ones(n, bool) for n in FIRST])
    arrays = padded(boxes), padded(labels), padded(objects), there, there
    return losses.Regions(*map(jnp.asarray, arrays))


def pooler_of(levels):
    return Pooler(batch_of(), levels, case.STRIDES)


@pytest.mark.slow
@pytest.mark.parametrize("library, variant", MODELS)
def test_training_points(library, variant):
    """The same of the drawn points are the least certain ones, from the library's coarse masks."""
    config, given = config_of(library, variant).mask, golden(library, variant)
    uniform, count = case.SeededUniform(), config.train_points
    labels = np.concatenate([case.regions(i, library)[2] for i in range(2)])
    candidates = uniform(len(labels), int(count * config.oversampling), 2)
    coarse = given["coarse"][np.arange(len(labels)), ..., labels]
    ours = np.asarray(
        uncertain_points(jnp.asarray(coarse), jnp.asarray(candidates), int(config.importance * count))
    )
    theirs = given["points"]
    others = uniform(len(labels), count - ours.shape[1], 2)
    assert theirs.shape == (len(labels), count, 2)
    np.testing.assert_array_equal(theirs[:, ours.shape[1] :], others)
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(sorted(map(tuple, mine)), sorted(map(tuple, expected[: len(mine)])))


@pytest.mark.slow
@each
def test_losses_and_gradients(library, variant):
    head, weights = head_of(library, variant)
    given = golden(library, variant)
    regions = regions_of(library)
    graphdef, state = nnx.split(head)

    @jax.jit
    def run(state, levels):
        def total(state, levels):
            terms = nnx.merge(graphdef, state).loss_terms(pooler_of(levels), regions, Pass())
            values = losses.reduce_terms(jax.tree.map(jnp.sum, terms))
            return sum(values.values()), values

        return jax.grad(total, (0, 1), has_aux=True)(state, levels)

    (gradient, of_maps), values = run(state, [jnp.asarray(x) for x in case.levels()])
    assert values.keys() == {"loss_mask", "loss_mask_point"}
    for name, value in values.items():
        check(name, abs(float(value) / given[f"losses/{name}"] - 1), 1e-4)
    expected = {k.removeprefix("gradient/"): v for k, v in given.items() if k.startswith("gradient/")}
    ours = {f"mask_head.{path}": value for path, value in flat(gradient).items()}
    table = LIBRARIES[library].table(config_of(library, variant))
    check_gradients(f"{library} {variant}", ours, expected, weights, table)
    for i, own in enumerate(of_maps):
        if f"p{i + 2}" not in expected:
            assert not np.asarray(own).any()
            continue
        *theirs, norm = expected[f"p{i + 2}"]
        mine = sampled(f"p{i + 2}", np.asarray(own), len(theirs))
        check(f"gradient of P{i + 2}", np.abs(mine - theirs) / np.abs(theirs).max(), 1e-4)
        assert abs(np.linalg.norm(own) / norm - 1) < 1e-4


@pytest.mark.slow
@each
def test_masks(library, variant):
    """Coarse masks; then each map from the library's one before, with the same cells predicted anew."""
    head, given = head_of(library, variant)[0], golden(library, variant)
    part, regions = head.config, regions_of(library)
    labels = regions.labels.reshape(-1)
    theirs = [by_image(given[f"map{k}"]) for k in range(sum(k.startswith("map") for k in given))]
    sides = tuple(x.shape[-1] for x in theirs)
    assert sides == part.map_sides
    coarse_first = library == "mmdet" and sides[0] == part.coarse_side

    @jax.jit
    def run(levels, coarse, maps):
        pooler, ours = pooler_of(levels), []

        def evaluate(points):
            return head.at_points(pooler, regions.boxes, coarse, labels, points)

        for k in range(len(sides)):
            if k == 0:
                first = of_class(coarse, labels) if coarse_first else None
                ours.append(subdivide(evaluate, sides[:1], part.subdivision_points, first, len(labels)))
            else:
                ours.append(subdivide(evaluate, sides[k - 1 : k + 1], part.subdivision_points, maps[k - 1]))
        return head.coarse_masks(pooler, regions.boxes), ours

    levels = [jnp.asarray(x) for x in case.levels()]
    flat_maps = [jnp.asarray(x).reshape(-1, *x.shape[2:]) for x in theirs]
    given_coarse = by_image(given["coarse"])
    coarse, maps = run(levels, jnp.asarray(given_coarse).reshape(-1, *given_coarse.shape[2:]), flat_maps)
    ours = valid(coarse.reshape(given_coarse.shape))
    check(f"{library} {variant} coarse masks, relative", relative(ours, given["coarse"]), 1e-4)
    for k, own in enumerate(maps):
        ours = valid(own.reshape(theirs[k].shape))
        check(f"{library} {variant} map {sides[k]}, relative", relative(ours, given[f"map{k}"]), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("library, variant", MODELS)
def test_whole_head(library, variant):
    """The last map from the feature maps alone; a cell that is almost as certain as another may be left."""
    head, given, regions = head_of(library, variant)[0], golden(library, variant), regions_of(library)
    found = Detections(regions.boxes, regions.valid * 1.0, regions.labels, None, regions.valid)
    run = jax.jit(lambda levels: head.predict(pooler_of(levels), found)["masks"])
    masks = valid(run([jnp.asarray(x) for x in case.levels()]))
    theirs = 1 / (1 + np.exp(-given[f"map{len(head.config.map_sides) - 1}"].astype(np.float64)))
    errors = np.abs(masks - theirs)
    check(f"{library} {variant} masks, share of other cells", (errors > 1e-4).mean(), 1e-3)
    check(f"{library} {variant} masks, share of other pixels", ((masks > 0.5) != (theirs > 0.5)).mean(), 1e-4)


def scenes_of(library):
    return [seeded_scene(*scene) for scene in json.loads(str(golden(library, "model")["scenes"]))]


@functools.cache
def detector(library):
    names = json.loads(str(golden(library, "model")["names"]))
    weights = {n: case.seeded_detector_weight(n, tuple(shape), library) for n, shape in names.items()}
    return from_state_dict(weights, config_of(library, "model"), library), weights


@pytest.mark.slow  # two minutes of compilation
@pytest.mark.parametrize("library", ["detectron2", "mmdet"])
def test_detector_losses_and_gradients(library):
    """From images; the mask head's regions are the boxes that the box head makes of them in Detectron2."""
    (model, weights), given, config = detector(library), golden(library, "model"), config_of(library, "model")
    assert config.regions.head_boxes == ("predicted" if library == "detectron2" else "sampled")
    scenes = scenes_of(library)
    targets = [{k: s[k] for k in ("boxes", "labels", "masks")} for s in scenes]
    batch = make_batch(config, [s["image"] for s in scenes], targets)
    slots = int(config.regions.batch_size * config.regions.positive_fraction)
    kind = given_points(padded([given[f"points/{i}"] for i in range(len(scenes))], slots))
    head = kind(config.mask, config.neck.channels, config.classes, rngs=nnx.Rngs(0))
    nnx.update(head, nnx.state(model.mask_head))
    plain, model.mask_head = model.mask_head, head
    run, params = gradient_function(model)
    gradient, values = run(params, batch)
    model.mask_head = plain
    assert len(values) == 6
    for name, value in values.items():
        check(name, abs(float(value) / given[f"losses/{name}"] - 1), 1e-4)
    expected = {k.removeprefix("gradient/"): v for k, v in given.items() if k.startswith("gradient/")}
    expected = {k: v for k, v in expected.items() if v[-1]}  # some levels have no region in these images
    table = LIBRARIES[library].table(config)
    ours = {path: value for path, value in flat(gradient).items() if value.any()}
    assert {table.translate(name)[0] for name in expected} == ours.keys()
    check_gradients(library, ours, expected, {name: weights[name] for name in expected}, table)


@pytest.mark.slow  # as above
@pytest.mark.parametrize("library", ["detectron2", "mmdet"])
def test_detections(library):
    model, _ = detector(library)
    given, config = golden(library, "model"), config_of(library, "model")
    predictor = Predictor(model, config.detections.score_threshold)
    for i, scene in enumerate(scenes_of(library)):
        ours = predictor(scene["image"])
        boxes, masks = given[f"found/{i}/boxes"], given[f"found/{i}/masks"]
        masks = np.unpackbits(masks, axis=-1, count=scene["image"].shape[1]).astype(bool)
        check("boxes, px", np.abs(ours["boxes"] - boxes), 0.05)
        check("scores", np.abs(ours["scores"] - given[f"found/{i}/scores"]), 1e-4)
        np.testing.assert_array_equal(ours["labels"], given[f"found/{i}/labels"])
        mine = ours["masks"]
        overlap = (mine & masks).sum((1, 2)) / np.maximum((mine | masks).sum((1, 2)), 1)
        check("1 - IoU of masks", 1 - overlap, 5e-3)
