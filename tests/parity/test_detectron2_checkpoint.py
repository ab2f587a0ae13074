"""Real weights on photographs against what Detectron2 made of them.

The weights and photographs lie in a folder ``shared`` beside the checkout; without it these tests are
skipped. The goldens come from `record_detectron2_checkpoint.py` and, for the validation photographs,
from the checkpoint's own folder.
"""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from folders import GOLDENS, ROOT
from goldens.photographs import LARGE, derived_photographs
from goldens.seeded_weights import sampled
from pycocotools import mask as rle_codec

from jaxmaskrcnn.checkpoints.directory import load_model
from jaxmaskrcnn.cli.main import run_command
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.evaluation.results import coco_results
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.models.backbones.resnet import ResNet
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.zoo.lookup import model_config

SHARED = ROOT / ".." / "shared"
CHECKPOINTS, BALLOON = SHARED / "checkpoints", SHARED / "data" / "balloon"
YAML = CHECKPOINTS / "detectron2_balloon.yaml"
GOLDEN = np.load(GOLDENS / "detectron2_checkpoint.npz")
# Detectron2's own AP of the balloon detector on the validation photographs.
BOX_AP, MASK_AP = 0.4604, 0.4588

pytestmark = [
    pytest.mark.usefixtures("highest_precision"),
    pytest.mark.skipif(
        not (CHECKPOINTS / "expand.py").exists() or not (BALLOON / "val.json").exists(),
        reason=f"{SHARED} does not hold the trained checkpoints and the balloon photographs",
    ),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The folder of model_final.pkl and R-50.pkl."""
    folder = tmp_path_factory.mktemp("checkpoints")
    subprocess.run([sys.executable, CHECKPOINTS / "expand.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def detector(weights):
    return load_model(weights / "model_final.pkl", model=YAML)


@pytest.fixture(scope="module")
def validation():
    """The validation photographs by id, and Detectron2's detections on them."""
    images = {i["id"]: i for i in json.loads((BALLOON / "val.json").read_text())["images"]}
    return images, json.loads((CHECKPOINTS / "detectron2_balloon_detections.json").read_text())


def compare(what, ours, theirs):
    """Pairs up detections (COCO results) of the same image and category, and checks the shares.

    A pair has an IoU above 0.99 and scores within 1e-3. Not more than 0.5 % may be without a partner
    on either side.
    """
    left = list(ours)
    boxes, scores, masks = [0.0], [0.0], [1.0]
    for their in theirs:
        candidates = [
            our for our in left
            if (our["image_id"], our["category_id"]) == (their["image_id"], their["category_id"])
            and abs(our["score"] - their["score"]) < 1e-3
        ]  # fmt: skip
        overlaps = [rle_codec.iou([their["bbox"]], [our["bbox"]], [0])[0, 0] for our in candidates]
        if max(overlaps, default=0) > 0.99:
            our = candidates[int(np.argmax(overlaps))]
            left.remove(our)
            boxes.append(np.abs(np.subtract(our["bbox"], their["bbox"])).max())
            scores.append(abs(our["score"] - their["score"]))
            masks.append(rle_codec.iou([their["segmentation"]], [our["segmentation"]], [0])[0, 0])
    matched = len(ours) - len(left)
    print(
        f"{what}: {matched} of {len(theirs)} detections matched, {len(left)} more; largest differences: "
        f"boxes {max(boxes):.1e} px, scores {max(scores):.1e}; smallest mask IoU {min(masks):.4f}, "
        f"{sum(iou == 1 for iou in masks[1:])} masks identical"
    )
    assert matched >= 0.995 * len(theirs), what
    assert len(left) <= 0.005 * len(theirs), what
    assert max(boxes) < 1e-2 and min(masks) > 0.98, what


class Holder(nnx.Module):
    """What `load_backbone` needs of a detector."""

    def __init__(self, config):
        self.config = config
        self.backbone = nnx.Module()
        self.backbone.body = ResNet(config.backbone, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def imagenet_features(weights):
    """C2 to C5 of the ImageNet ResNet-50, for a stride in the 1x1 or not."""
    image = decode_image(BALLOON / "val" / str(GOLDEN["backbone/photo"]))

    def run(stride_in_1x1):
        config = model_config(
            "detectron2/mask_rcnn_R_50_FPN_3x",
            **{
                "input.test_min_size": 224,
                "input.test_max_size": 320,
                "backbone.stride_in_1x1": stride_in_1x1,
            },
        )
        graphdef, shapes = nnx.split(nnx.eval_shape(lambda: Holder(config)))
        model = nnx.merge(graphdef, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        load_backbone(model, weights / "R-50.pkl")
        batch = make_batch(config, [image])
        np.testing.assert_array_equal(batch.image_sizes[0], GOLDEN["backbone/size"])
        stages = jax.jit(lambda m, x, e: m(x, Pass(e)))(model.backbone.body, batch.images, batch.extents)
        errors = []
        for i, ours in enumerate(stages, start=2):
            assert ours.shape == tuple(GOLDEN[f"backbone/C{i}_shape"])
            theirs = GOLDEN[f"backbone/C{i}"]
            errors.append(
                np.abs(sampled(f"C{i}", np.asarray(ours), 500) - theirs).max() / np.abs(theirs).max()
            )
        print("C2 to C5 of the ImageNet weights, relative:", [f"{e:.1e}" for e in errors])
        return errors

    return run


@pytest.mark.slow
def test_imagenet_backbone(imagenet_features):
    assert max(imagenet_features(True)) < 1e-4


@pytest.mark.slow
def test_imagenet_backbone_with_the_stride_elsewhere(imagenet_features):
    errors = imagenet_features(False)
    assert errors[0] < 1e-4 and min(errors[1:]) > 1e-2  # the first stage has no stride


@pytest.mark.slow
def test_a_few_photographs(detector, validation):
    images, theirs = validation
    predictor = Predictor(detector)
    some = [1, 4]  # of one canvas
    ours = []
    for i in some:
        ours += coco_results(predictor(BALLOON / "val" / images[i]["file_name"], masks="rle"), i)
    for entry in ours:
        entry["category_id"] = 1  # the checkpoint names no categories
    compare("two photographs", ours, [d for d in theirs if d["image_id"] in some])


@pytest.mark.slow
def test_evaluation(weights, validation, tmp_path):
    """`evaluate.py` on all validation photographs: Detectron2's detections and its AP."""
    arguments = {
        "checkpoint": weights / "model_final.pkl", "model": YAML, "annotations": BALLOON / "val.json",
        "images": BALLOON / "val", "output": tmp_path, "cache_dir": tmp_path / "cache",
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in arguments.items()]
    assert run_command("evaluate", words, "evaluate.py") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    print("box AP", metrics["box_AP"], "mask AP", metrics["mask_AP"])
    assert abs(metrics["box_AP"] - BOX_AP) < 1e-3
    assert abs(metrics["mask_AP"] - MASK_AP) < 1e-3
    compare("all photographs", json.loads((tmp_path / "detections.json").read_text()), validation[1])


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True])
def test_photographs_of_many_shapes(detector, tmp_path, large):
    size = {"input.test_min_size": 800, "input.test_max_size": 1333} if large else {}
    predictor = Predictor(with_config(detector, **size))
    ours, theirs = [], []
    for i, (name, path, checksum) in enumerate(derived_photographs(BALLOON, tmp_path)):
        if (name in LARGE) != large:
            continue
        assert checksum == GOLDEN[f"{name}/checksum"], "this Pillow decodes the photographs differently"
        found = coco_results(predictor(path, masks="rle"), i)
        recorded = {"boxes": GOLDEN[f"{name}/boxes"], "scores": GOLDEN[f"{name}/scores"]}
        shape = GOLDEN[f"{name}/size"].tolist()
        counts = json.loads(str(GOLDEN[f"{name}/masks"]))
        recorded["masks"] = [{"size": shape, "counts": count} for count in counts]
        recorded["labels"] = np.full(len(counts), predictor.categories[0].id)
        recorded = coco_results(recorded, i)
        compare(name, found, recorded)
        ours, theirs = ours + found, theirs + recorded
    compare("all shapes", ours, theirs)


def with_config(detector, **changes):
    """The same weights under another config."""
    graphdef, state = nnx.split(detector)
    changed = nnx.merge(graphdef, state)
    changed.config = detector.config.replace(changes)
    return changed
