"""maskrcnn-benchmark's detector: its file loads without a preset, and detects what the library itself does.

What maskrcnn-benchmark computed is in `goldens/maskrcnn_benchmark.npz` (see `record_maskrcnn_benchmark.py`).
``pytest -s`` prints the largest errors.
"""

import json

import jax
import numpy as np
import pytest
from folders import GOLDENS
from golden_helpers import check
from goldens.seeded_weights import seeded_benchmark_weight, seeded_scene

from jaxmaskrcnn.convert.choice import choose_config
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.familiar_names import familiar_names
from jaxmaskrcnn.convert.files.reader import SourceFile
from jaxmaskrcnn.convert.libraries import LIBRARIES, recognise
from jaxmaskrcnn.convert.state_dict import variables_by_path
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.postprocess import postprocess
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.ops.anchors import base_anchors
from jaxmaskrcnn.ops.resize import output_size

pytestmark = pytest.mark.usefixtures("highest_precision")

GOLDEN = dict(np.load(GOLDENS / "maskrcnn_benchmark.npz"))
NAMES = json.loads(str(GOLDEN["names"]))
ZOO = json.loads(str(GOLDEN["zoo"]))
SCENES = ((66, 88), (180, 72), (210, 280))
# What the recording script sets beside the arrays.
SETTINGS = {
    "rpn.anchors.sizes": ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,)),
    "rpn.pre_nms_test": 200,
    "rpn.post_nms_test": 40,
    "detections.per_image": 9,
    "input.test_min_size": 96,
    "input.test_max_size": 160,
}


def arrays():
    carried = {
        f"rpn.anchor_generator.{name}": x for name, x in GOLDEN.items() if name.startswith("cell_anchors")
    }
    drawn = {name: seeded_benchmark_weight(name, tuple(shape)) for name, shape in NAMES.items()}
    return {f"module.{name}": value for name, value in (drawn | carried).items()}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "model_final.npz"
    np.savez(path, **arrays())
    return load_detector(path)


@pytest.fixture(scope="module")
def model(loaded):
    model = loaded[0]
    model.config = model.config.replace(SETTINGS)
    return model


def test_a_file_needs_no_preset(loaded):
    _, report = loaded
    assert report.library == "maskrcnn-benchmark" and not report.left
    assert report.config.num_classes == 3 and report.config.label_order == "list"
    assert (report.config.backbone.depth, report.config.backbone.width, report.config.mask.convs) == (
        50,
        8,
        2,
    )
    assert any("102.9801, 115.9465, 122.7717 (BGR), the stride in the 1x1" in note for note in report.notes)
    # The anchors that the file carries are not the default ones.
    (warning,) = report.warnings
    assert "made with anchors of 8, 16, 32, 64, 128 px" in warning


def test_anchors_are_those_that_a_file_carries(model):
    anchors = model.config.rpn.anchors
    for i, level in enumerate(model.config.levels):
        own = base_anchors(
            anchors.per_level[i][0], anchors.per_level[i][1], False, anchors.order, level.stride
        )
        own = own + anchors.offset * level.stride - [0, 0, 1, 1]
        np.testing.assert_allclose(own, GOLDEN[f"cell_anchors.{i}"], atol=1e-5)


def test_the_anchors_of_faster_rcnns_first_code():
    """The table in generate_anchors.py, from Shaoqing Ren's Matlab code, which counts pixels from 1."""
    table = [
        [-83, -39, 100, 56], [-175, -87, 192, 104], [-359, -183, 376, 200], [-55, -55, 72, 72],
        [-119, -119, 136, 136], [-247, -247, 264, 264], [-35, -79, 52, 96], [-79, -167, 96, 184],
        [-167, -343, 184, 360],
    ]  # fmt: skip
    own = base_anchors((128, 256, 512), (0.5, 1.0, 2.0), False, "ratio", 16) + 8 - np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(own, np.array(table) - 1)


def detect(model):
    program = jax.jit(lambda model, batch: model.detect(batch))
    results = []
    for height, width in SCENES:
        image = seeded_scene(height, width, [(5, 5, width - 20, height - 9)])["image"]
        batch = make_batch(model, [image])
        found = jax.tree.map(lambda x: x[0], program(model, batch))
        result = postprocess(found, batch.image_sizes[0], (height, width), model.config)
        results.append((batch, result))
    return results


@pytest.fixture(scope="module")
def results(model):
    return detect(model)


@pytest.mark.slow
@pytest.mark.parametrize("n", range(3))
def test_input(results, n):
    batch, _ = results[n]
    assert batch.image_sizes[0].tolist() == GOLDEN[f"{n}.size"].tolist()
    height, width = GOLDEN[f"{n}.size"]
    own = np.asarray(batch.images[0])[:height, :width][::7, ::5]
    check(f"input {n}", np.abs(own - GOLDEN[f"{n}.input"]).max(), 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("n", range(3))
def test_detections(results, n):
    _, own = results[n]
    # Here a box ends after its last pixel, there at its index.
    boxes = own["boxes"] - np.float32([0, 0, 1, 1])
    np.testing.assert_array_equal(own["labels"] + 1, GOLDEN[f"{n}.labels"])
    check(f"boxes {n}", np.abs(boxes - GOLDEN[f"{n}.boxes"]).max(), 2e-3)
    sides = np.concatenate([own["boxes"][:, :2], own["boxes"][:, 2:] - own["boxes"][:, :2]], axis=1)
    check(f"xywh {n}", np.abs(sides - GOLDEN[f"{n}.xywh"]).max(), 2e-3)
    check(f"scores {n}", np.abs(own["scores"] - GOLDEN[f"{n}.scores"]).max(), 1e-4)
    masks = own["masks"].reshape(len(boxes), -1)
    theirs = np.unpackbits(GOLDEN[f"{n}.masks"], axis=1)[:, : masks.shape[1]].astype(bool)
    assert theirs.any() and (masks != theirs).mean() < 1e-4


def test_sizes_of_images():
    """Resize.get_size of data/transforms/transforms.py, written out."""

    def get_size(height, width, size, largest):
        low, high = float(min(width, height)), float(max(width, height))
        if high / low * size > largest:
            size = int(round(largest * low / high))
        if (width <= height and width == size) or (height <= width and height == size):
            return height, width
        return (int(size * height / width), size) if width < height else (size, int(size * width / height))

    rng = np.random.default_rng(0)
    for height, width in rng.integers(20, 3000, (500, 2)).tolist():
        assert output_size(height, width, 800, 1333, "truncate_long_side") == get_size(
            height, width, 800, 1333
        )


@pytest.mark.slow_except("-e2e_faster_rcnn_X_101_32x8d_FPN_1x")
@pytest.mark.parametrize("name", sorted(ZOO))
@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_and_shapes_of_the_published_models(name, prefix):
    """All arrays have a place, as the library itself built these models."""
    empty = {f"{prefix}{key}": np.broadcast_to(np.float32(1), shape) for key, shape in ZOO[name].items()}
    arrays, older = familiar_names(empty)
    assert older == "maskrcnn-benchmark"
    library, arrays, _ = recognise(arrays, "it")
    choice = choose_config(library, arrays, SourceFile("it.pth", arrays, {}), None, None, None, False, older)
    config = choice.config
    shapes = {path: v.shape for path, v in variables_by_path(abstract_model(config)).items()}
    assignment = LIBRARIES["detectron2"].table(config).assign(arrays, shapes, "it")
    assert not assignment.left and all("cell_anchors" in ignored for ignored in assignment.ignored)
    assert config.num_classes == 80 and config.categories[0].name == "person"
    kinds = {
        "e2e_mask_rcnn_R_50_FPN_1x": (50, 1, True, None),
        "e2e_mask_rcnn_R_50_C4_1x": (50, 1, True, "res5"),
        "e2e_faster_rcnn_X_101_32x8d_FPN_1x": (101, 32, False, None),
        "gn_baselines/e2e_mask_rcnn_R_50_FPN_Xconv1fc_1x_gn": (50, 1, False, None),
    }
    backbone = config.backbone
    found = (backbone.depth, backbone.groups, backbone.stride_in_1x1, config.trunk and config.trunk.kind)
    assert found == kinds[name]
    assert (config.mask is None) == ("faster" in name) and (backbone.norm == "gn") == ("_gn" in name)
