"""The classic bugs of Mask R-CNN ports, and the tests that each one trips over.

Every bug was put in and the tests seen to fail. Tests without a file are in this one.

 1  epsilon 0 or 1e-5 in batch norm
        test_torchvision_stages.py::test_stages_of_the_backbone
        test_resnet_golden.py::test_features_equal_torchvision
 2  BGR or RGB, 0 to 1 or 0 to 255
        test_a_red_picture
 3  order in which the first fully connected layer reads a region
        test_the_first_layer_of_the_box_head_reads_a_region_as_torch_does
        test_torchvision_stages.py::test_region_features_and_box_head
 4  deconvolution's kernel turned round
        test_the_deconvolution_puts_each_cell_where_torch_does
 5  SAME padding with stride 2
        test_strided_convolutions_pad_both_sides
        test_torchvision_stages.py::test_stages_of_the_backbone
 6  half a pixel in RoIAlign
        test_roi_align.py::test_a_ramp_gives_the_centres_of_the_bins
 7  RoIAlign across the border
        test_roi_align.py::test_pyramid_equals_torchvision
 8  anchors: order, rounding, stride
        test_torchvision_stages.py::test_anchors
 9  scale inferred for oblong images
        test_torchvision_stages.py::test_levels_of_regions
10  NMS: IoU at the threshold, low precision, the best of a batch
        test_nms.py::test_equality_keeps
        test_low_precision_scores_leave_the_boxes_alone
        test_mask_rcnn.py::test_an_image_in_a_batch_is_treated_as_if_alone
11  what the RPN's losses are divided by
        test_what_the_losses_of_the_rpn_are_divided_by
12  low-quality matches that change hands
        test_matching.py::test_the_two_low_quality_rules_differ_in_whom_a_column_goes_to
13  COCO's 90 ids and 80 classes
        test_the_truth_scores_one_by_either_numbering
14  crowds as objects or as background
        test_losses.py::test_crowd_regions_are_neither_positive_nor_negative
        test_an_image_with_nothing_but_a_crowd
15  images without objects
        test_mask_rcnn.py::test_images_without_objects_train
16  boxes without area
        test_a_proposal_without_area_has_finite_losses
        test_preprocess.py::test_wrong_input_is_named
17  pasted masks off by one
        test_masks.py::test_a_full_mask_fills_its_box
        test_torchvision_stages.py::test_pasted_masks
18  EXIF orientation
        test_predictor.py::test_files_of_other_modes_and_orientations
19  antialiasing
        test_a_photograph_of_4000_pixels
20  AP lost in conversion: every stage of each library
        test_torchvision_stages.py
        test_detectron2_model.py
        test_mmdet_model.py
21  products in TF32 or bfloat16
        test_no_product_escapes_the_precision_asked_for
22  resuming begins the schedule again
        test_train_loop.py::test_a_run_that_was_stopped_ends_bit_for_bit_like_one_that_was_not
23  learning rate not scaled with the batch
        test_optimizer.py::test_rate_is_scaled_with_the_batch_and_the_log_says_so
24  short cuts of other implementations as defaults
        test_presets.py::test_conventions_of_each_library
25  another number of classes, silently
        test_state_dict.py::test_another_number_of_classes
        test_detector_loading.py::test_another_number_of_classes
26  kernel of the resize
        test_resize.py::test_torch_kernel_equals_torchvision
        test_resize.py::test_cv2_kernel_equals_its_scalar_definition
        test_resize.py::test_pil_kernel_equals_its_scalar_definition
27  padded regions in the gradient
        test_gradients_of_padding_alone_are_finite
28  an earlier port's anchors, NMS over all levels, clipping, one level
        test_torchvision_stages.py::test_anchors
        test_torchvision_stages.py::test_proposals
        test_boxes.py::test_clipping_equals_torchvision_with_a_traced_size
        test_torchvision_stages.py::test_region_features_and_box_head
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conversion_helpers import TORCH
from detectors import random_model, small_config
from flax import nnx
from PIL import Image
from pycocotools import mask as rle_codec

from jaxmaskrcnn import losses
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.evaluation.coco import coco_metrics
from jaxmaskrcnn.evaluation.evaluate import match_categories
from jaxmaskrcnn.evaluation.results import coco_results
from jaxmaskrcnn.inference.postprocess import postprocess
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.models.inputs import normalise
from jaxmaskrcnn.models.layers import Conv, Deconv2x2
from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.ops.nms import batched_nms, limited_nms
from jaxmaskrcnn.ops.roi_align import roi_align
from jaxmaskrcnn.structures import Anchors, Detections, Proposals, Targets
from jaxmaskrcnn.zoo.lookup import COCO_80, model_config

TORCHVISION, DETECTRON2, MMDET = (
    "torchvision/maskrcnn_resnet50_fpn",
    "detectron2/mask_rcnn_R_50_FPN_3x",
    "mmdet/mask-rcnn_r50_fpn_1x_coco",
)


def test_every_test_of_the_list_exists():
    named = re.findall(r"^ {8}(?:(\w+\.py)(?:::)?)?(\w*)$", __doc__, re.MULTILINE)
    assert len(named) == __doc__.count("        test_") > 28
    for file, test in named:
        text = next(Path(__file__).parent.rglob(file or Path(__file__).name)).read_text(encoding="utf-8")
        assert f"def {test}" in text, (file, test)


class Colours(nnx.Module):
    """Puts out the network's input at the pixel (5, 5), as scores."""

    def __init__(self, config):
        self.config = config
        self.categories = config.known_categories()

    def detect(self, batch):
        pixel = normalise(batch.images, batch.image_sizes, self.config)[:, 5, 5]  # [B, 3]
        boxes = jnp.tile(jnp.array([2.0, 2, 9, 9]), (*pixel.shape, 1))
        return Detections(boxes, pixel, jnp.zeros(pixel.shape, jnp.int32), None, jnp.ones(pixel.shape, bool))


@pytest.mark.slow_except("detectron2/mask_rcnn_R_50_FPN_3x-expected2")
@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (TORCHVISION, [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
        pytest.param(
            TORCHVISION + "_v2",
            [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225],
            marks=pytest.mark.slow,
        ),
        (DETECTRON2, [-103.53, -116.28, 255 - 123.675]),
        (MMDET, [(255 - 123.675) / 58.395, -116.28 / 57.12, -103.53 / 57.375]),
        pytest.param(
            "mmdet/mask-rcnn_r50-caffe_fpn_1x_coco", [-103.53, -116.28, 255 - 123.675], marks=pytest.mark.slow
        ),
    ],
)
def test_a_red_picture(preset, expected, tmp_path):
    config = model_config(preset, **{"mask": None, "input.test_min_size": 32, "input.test_max_size": 32})
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    predictor = Predictor(Colours(config), score_threshold=0)
    for picture in (red, Image.fromarray(red), str(tmp_path / "red.png")):
        np.testing.assert_allclose(predictor(picture)["scores"], expected, rtol=1e-5)


FIRST_LAYERS = {
    "torchvision": "roi_heads.box_head.fc6.weight",
    "detectron2": "roi_heads.box_head.fc1.weight",
    "mmdet": "roi_head.bbox_head.shared_fcs.0.weight",
}


@pytest.mark.parametrize("library", TORCH)
def test_the_first_layer_of_the_box_head_reads_a_region_as_torch_does(library):
    config = small_config(
        num_classes=2,
        background="first" if library == "torchvision" else "last",
        **{"neck.channels": 5, "box.fcs": 1, "box.fc_dim": 3},
    )
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 5 * 7 * 7)).astype(np.float32)
    region = rng.standard_normal((1, 7, 7, 5)).astype(np.float32)
    path, transform = LIBRARIES[library].table(config).translate(FIRST_LAYERS[library])
    assert path == "box_head.fcs.0.kernel"
    head = random_model(config).box_head
    head.fcs[0].kernel[...] = transform.to_model(weight)
    head.cls_score.kernel[...] = jnp.eye(3)
    logits, _ = jax.jit(lambda head, region: head(region))(head, region)
    expected = weight @ region[0].transpose(2, 0, 1).ravel()  # channel, row, column
    np.testing.assert_allclose(logits[0], np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


DECONVOLUTIONS = {
    "torchvision": "roi_heads.mask_predictor.conv5_mask.weight",
    "detectron2": "roi_heads.mask_head.deconv.weight",
    "mmdet": "roi_head.mask_head.upsample.weight",
}


@pytest.mark.parametrize("library", TORCH)
def test_the_deconvolution_puts_each_cell_where_torch_does(library):
    weight = np.float32([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]])  # [in 1, out 2, rows, columns]
    path, transform = LIBRARIES[library].table(ModelConfig()).translate(DECONVOLUTIONS[library])
    assert path == "mask_head.deconv.kernel"
    layer = Deconv2x2(1, 2, rngs=nnx.Rngs(0))
    layer.kernel[...] = transform.to_model(weight)
    cells = np.float32([[[[10], [1]]]])  # two side by side
    out = np.asarray(jax.jit(lambda layer, cells: layer(cells))(layer, cells))
    np.testing.assert_array_equal(out[0, :, :, 0], [[10, 20, 1, 2], [30, 40, 3, 4]])
    np.testing.assert_array_equal(out[0, :, :, 1], [[50, 60, 5, 6], [70, 80, 7, 8]])


@pytest.mark.parametrize("size", [3, 7])
def test_strided_convolutions_pad_both_sides(size):
    layer = Conv(1, 1, size, stride=2, bias=False, rngs=nnx.Rngs(0))
    kernel = np.arange(1.0, size**2 + 1).reshape(size, size)
    layer.kernel[...] = jnp.array(kernel[:, :, None, None])
    impulse = np.zeros((8, 8), np.float32)
    impulse[3, 4] = 1
    padded = np.pad(impulse, size // 2)
    expected = [
        [(padded[2 * i : 2 * i + size, 2 * j : 2 * j + size] * kernel).sum() for j in range(4)]
        for i in range(4)
    ]
    np.testing.assert_array_equal(layer(impulse[None, :, :, None])[0, :, :, 0], expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_scores_leave_the_boxes_alone(dtype):
    """In bfloat16 the IoU of the first two would be 0.5; a class's offset would not fit into float16."""
    boxes = np.float32([[1001, 0, 1011, 10], [1004, 0, 1014, 10], [1004, 0, 1014, 10]])
    scores, ids = np.array([0.9, 0.8, 0.7]).astype(jnp.dtype(dtype)), np.array([90, 90, 89])
    kept = jax.jit(lambda *arrays: batched_nms(*arrays, 0.5))(boxes, scores, ids)
    assert kept.tolist() == [True, False, True]
    index, found = map(np.asarray, jax.jit(lambda *arrays: limited_nms(*arrays, 0.5, 3))(boxes, scores, ids))
    assert index[found].tolist() == [0, 2]


def boxes_as_targets(boxes, *, crowd=False, slots=3):
    count = len(boxes)
    padded = np.zeros((slots, 4), np.float32)
    padded[:count] = np.reshape(boxes, (-1, 4))
    valid = np.arange(slots) < count
    masks = np.zeros((slots, 64, 64), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, padded.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return Targets(padded, np.zeros(slots, np.int32), pack_masks(masks), valid & crowd, valid)


@pytest.mark.parametrize("preset", [TORCHVISION, DETECTRON2, MMDET])
def test_what_the_losses_of_the_rpn_are_divided_by(preset):
    """Two images, the second one without an object, and fewer anchors than are to be sampled."""
    config = model_config(preset, **{"rpn.batch_size": 32})
    # The object; twice between the thresholds, sampled by nobody; background in the first image.
    anchors = np.float32([[8, 8, 40, 40], [8, 8, 40, 26], [8, 8, 40, 24], [50, 50, 60, 60], [0, 50, 9, 60]])
    targets = jax.tree.map(lambda *x: np.stack(x), boxes_as_targets([[8, 8, 40, 40]]), boxes_as_targets([]))
    objectness = np.float32([[1, 2, 3, 4, 5], [-1, 2, -3, 4, -5]])
    deltas = np.full((2, 5, 4), 3, np.float32)
    all_anchors = Anchors(jnp.asarray(anchors), np.ones(5, bool))

    @jax.jit
    def run(objectness, deltas, targets):
        terms = jax.vmap(lambda o, d, t: losses.rpn_losses(o, d, all_anchors, t, config.rpn, None))(
            objectness, deltas, targets
        )
        return losses.reduce_terms(jax.tree.map(lambda x: x.sum(), terms))

    found = run(objectness, deltas, targets)
    count = {TORCHVISION: 3 + 5, DETECTRON2: 2 * 32, MMDET: 3 + 5}[preset]
    sampled = np.concatenate([objectness[0, [0, 3, 4]], objectness[1]])
    label = np.arange(8) == 0
    entropy = np.logaddexp(0, sampled) - sampled * label
    beta = 1 / 9 if preset == TORCHVISION else 0
    np.testing.assert_allclose(found["loss_objectness"], entropy.sum() / count, rtol=1e-5)
    np.testing.assert_allclose(found["loss_rpn_box_reg"], 4 * (3 - beta / 2) / count, rtol=1e-5)


@pytest.mark.parametrize("preset", [TORCHVISION, DETECTRON2, MMDET])
@pytest.mark.parametrize("named", [True, False])
def test_the_truth_scores_one_by_either_numbering(preset, named):
    """torchvision's class index is the category id; the others number the 80 ids in ascending order."""
    ids = [c.id for c in COCO_80]
    shown = [1, 11, 13, 44, 90]  # a hole in the ids before each of them but the first two
    config = model_config(preset)
    if not named:
        config = config.replace(categories=())
    labels = [i - 1 for i in shown] if preset == TORCHVISION else [ids.index(i) for i in shown]
    boxes = np.float32([[10 * k, 5, 10 * k + 9, 25] for k in range(5)])
    annotations = []
    for k, (category, (x1, y1, x2, y2)) in enumerate(zip(shown, boxes.tolist(), strict=True)):
        mask = np.zeros((40, 60), np.uint8, order="F")
        mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
        rle = rle_codec.encode(mask)
        annotations.append({
            "id": k + 1, "image_id": 7, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": float(mask.sum()), "iscrowd": 0,
            "segmentation": {"size": [40, 60], "counts": rle["counts"].decode()},
        })  # fmt: skip
    content = {
        "images": [{"id": 7, "height": 40, "width": 60, "file_name": "7.png"}],
        "annotations": annotations,
        "categories": [c._asdict() for c in COCO_80],
    }
    categories = match_categories(config, COCO_80)
    found = Detections(boxes, np.ones(5), np.array(labels), np.ones((5, 28, 28)), np.ones(5, bool))
    out = postprocess(found, (40, 60), (40, 60), config, masks="rle", categories=categories)
    metrics = coco_metrics(content, coco_results(out, 7))
    assert metrics["box_AP"] == pytest.approx(1)
    assert metrics["mask_AP"] > 0.7  # torchvision's masks are larger than their boxes


def region_losses(targets, proposals, config):
    """Regions of one image, the losses of the heads, and their gradient."""

    @jax.jit
    def run(proposals, targets):
        regions = losses.sample_regions(
            proposals, targets, config.regions, config.box.stages[0].foreground_iou, None
        )
        slots = config.regions.batch_size
        channels = config.num_classes + config.foreground_offset
        shapes = (slots, 4), (slots, channels, 4), (slots, 28, 28)
        outputs = tuple(jnp.full(shape, 0.1) for shape in shapes)

        def total(outputs):
            terms = losses.box_losses(*outputs[:2], regions, targets, config.classes, config.box)
            terms |= losses.mask_loss(outputs[2], regions, targets, 64, (64, 64), config.mask)
            scalars = losses.reduce_terms(terms)
            return sum(scalars.values()), scalars

        gradient, scalars = jax.grad(total, has_aux=True)(outputs)
        return regions, scalars, gradient

    return run(proposals, targets)


def as_proposals(boxes):
    return Proposals(np.float32(boxes), np.zeros(len(boxes), np.float32), np.ones(len(boxes), bool))


def head_config(**changes):
    return (
        ModelConfig(num_classes=3)
        .replace(changes)
        .replace({"regions.batch_size": 8, "regions.positive_fraction": 0.5})
    )


@pytest.mark.slow_except("ignore")
@pytest.mark.parametrize("rule", ["ignore", "drop"])
def test_an_image_with_nothing_but_a_crowd(rule):
    config = head_config(**{"rpn.crowd": rule, "regions.crowd": rule, "rpn.batch_size": 8})
    targets = boxes_as_targets([[10, 10, 50, 50]], crowd=True)
    boxes = np.float32([[10, 10, 50, 50], [20, 20, 40, 40], [0, 52, 60, 64]])
    regions, scalars, gradient = region_losses(targets, as_proposals(boxes), config)
    used = np.asarray(regions.boxes)[np.asarray(regions.valid)]
    assert not regions.positive.any() and len(used) == (1 if rule == "ignore" else 3)
    assert scalars["loss_mask"] == scalars["loss_box_reg"] == 0 < scalars["loss_classifier"]
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    terms = jax.jit(
        lambda objectness, anchors, targets: losses.rpn_losses(
            objectness, jnp.zeros((3, 4)), anchors, targets, config.rpn, None
        )
    )(np.zeros(3, np.float32), Anchors(boxes, np.ones(3, bool)), targets)
    assert terms["loss_rpn_box_reg"].total == 0
    assert terms["loss_objectness"].count == (1 if rule == "ignore" else 3)


@pytest.mark.parametrize("preset", [TORCHVISION, MMDET])
def test_a_proposal_without_area_has_finite_losses(preset):
    config = model_config(
        preset, num_classes=3, **{"regions.batch_size": 8, "regions.positive_fraction": 0.5}
    )
    # A proposal that clipping left without area, inside of the object, and one without width.
    boxes = np.float32([[20, 20, 20, 20], [12, 10, 12, 50], [10, 10, 50, 49]])
    regions, scalars, gradient = region_losses(
        boxes_as_targets([[10, 10, 50, 50]]), as_proposals(boxes), config
    )
    assert regions.positive.sum() == 2  # the third one and the object itself
    assert all(np.isfinite(v) and v > 0 for v in scalars.values())
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize(("preset", "averages"), [(TORCHVISION, False), (DETECTRON2, True), (MMDET, False)])
def test_a_photograph_of_4000_pixels(preset, averages):
    """Stripes of a pixel: Pillow makes them grey, torch and OpenCV pick single ones."""
    config = model_config(preset)
    stripes = np.zeros((3000, 4000, 3), np.uint8)
    stripes[:, ::2] = 255
    batch = make_batch(config, [stripes])
    height, width = {TORCHVISION: (800, 1066)}.get(preset, (800, 1067))
    assert batch.image_sizes.tolist() == [[height, width]]
    shown = batch.images[0, :height, :width] * np.float32(config.input.pixel_std) + np.float32(
        config.input.pixel_mean
    )
    contrast = (shown / config.input.pixel_scale).std()
    assert contrast < 15 if averages else contrast > 50


@pytest.mark.slow_except("torchvision/maskrcnn_resnet50_fpn")
@pytest.mark.parametrize("preset", [TORCHVISION, DETECTRON2])
def test_no_product_escapes_the_precision_asked_for(preset):
    """On TPUs and newer GPUs a product that says nothing loses half of its digits."""
    changes = {
        "backbone.stride_in_1x1": preset == DETECTRON2,
        "box.pool.sampling_ratio": 2,
        "mask.pool.sampling_ratio": 2,
    }
    config = small_config(**changes, **{"box.convs": 1, "input.test_min_size": 32, "input.test_max_size": 32})
    model = random_model(config)
    batch = make_batch(config, [np.zeros((32, 32, 3), np.uint8)])
    with jax.default_matmul_precision("highest"):
        text = jax.jit(lambda model, batch: model.detect(batch)).lower(model, batch).as_text()
    products = [
        line for line in text.splitlines() if re.search(r"stablehlo\.(convolution|dot_general)", line)
    ]
    assert len(products) > 30
    assert not [line for line in products if line.count("HIGHEST") != 2]


@pytest.mark.slow
def test_gradients_of_padding_alone_are_finite():
    """Regions of zeros, none of them valid."""
    config = head_config()
    targets = boxes_as_targets([])
    nothing = Proposals(np.zeros((6, 4), np.float32), np.zeros(6, np.float32), np.zeros(6, bool))
    regions, scalars, gradient = region_losses(targets, nothing, config)
    assert not regions.valid.any() and not regions.boxes.any()
    assert not any(scalars.values()) and not any(g.any() for g in gradient)

    @jax.jit
    def run(features, regions, targets):
        def total(features, objectness, deltas):
            anchors = Anchors(regions.boxes, regions.valid)
            terms = losses.rpn_losses(objectness, deltas, anchors, targets, config.rpn, None)
            pooled = [
                roi_align(features, regions.boxes, 7, aligned=False),
                roi_align(features, regions.boxes, 7, sampling_ratio=0, aligned=True),
            ]
            return sum(losses.reduce_terms(terms).values()) + sum((x**2).sum() for x in pooled)

        return jax.value_and_grad(total, argnums=(0, 1, 2))(features, jnp.zeros(8), jnp.zeros((8, 4)))

    value, gradient = run(np.ones((8, 8, 2), np.float32), regions, targets)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradient)
    assert not gradient[1].any() and not gradient[2].any()
