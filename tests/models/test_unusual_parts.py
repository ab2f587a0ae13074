"""What a configuration accepts can be built, learns and detects, by its shapes, at the limits of values."""

import jax
import numpy as np
import pytest
from detectors import small_config
from flax import nnx

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import RegNetConfig

ONE = ((32.0,),)
NARROW = RegNetConfig(w0=16, wa=14, wm=2, depth=7, group_width=12)
CASES = [
    {"regions.batch_size": 4, "rpn.batch_size": 2},
    {"box.fcs": 0},
    {"box.fcs": 0, "box.average": True},
    {"box.fcs": 0, "box.convs": 1, "mask.convs": 0},
    {"box.pool.size": 1, "mask.pool.size": 1, "input.pad_divisor": 1},
    {"backbone.outputs": (4,), "rpn.anchors.sizes": (32, 64)},
    {"backbone.outputs": (3, 4), "rpn.anchors.sizes": (32, 64, 128)},
    {"backbone.outputs": (5,), "neck": None, "rpn.anchors.sizes": ONE},
    {"backbone.outputs": (4,), "neck": None, "trunk": "res5", "rpn.anchors.sizes": ONE, "mask.pool.size": 7},
    # A pyramid whose channels are those that the trunk reads.
    {"backbone.outputs": (4,), "neck.channels": 32, "trunk": "res5", "rpn.anchors.sizes": (32, 64),
     "mask.pool.size": 7},
    {"backbone.width": 1, "num_classes": 1},
    {"backbone.width": 64, "backbone.width_per_group": 1, "backbone.groups": 3, "backbone.depth": 50},
    {"rpn.pre_nms_test": 1, "rpn.post_nms_test": 1, "rpn.pre_nms_train": 1, "rpn.post_nms_train": 1,
     "detections.per_image": 1},
    {"backbone": NARROW},
    {"backbone": NARROW, "backbone.squeeze_ratio": 0.01},
    {"neck.norm": "gn", "neck.channels": 32, "rpn.norm": "gn", "box.norm": "gn", "box.convs": 1,
     "box.conv_dim": 32, "mask.norm": "gn", "mask.dim": 32},
    {"backbone.norm": "gn", "backbone.width": 32, "backbone.depth": 50},
    {"mask": None, "regions.positive_fraction": 1.0},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("changes", CASES, ids=str)
def test_what_is_accepted_can_be_built(changes):
    config = small_config(num_classes=3).replace(changes)
    model = nnx.eval_shape(lambda: jmr.MaskRCNN(config, rngs=nnx.Rngs(0)))
    masks = np.zeros((1, 48, 64), bool)
    masks[0, 5:30, 5:30] = True
    target = {"boxes": [[5, 5, 30, 30]], "labels": [0], "masks": masks}
    batch = jmr.make_batch(model, [np.zeros((48, 64, 3), np.uint8)], [target])
    terms = jax.eval_shape(lambda m, b: m.loss_terms(b, jax.random.key(0)), model, batch)
    found = jax.eval_shape(lambda m, b: m.detect(b), model, batch)
    assert len(terms) == (4 if config.mask is None else 5)
    assert found.boxes.shape == (1, config.detections.per_image, 4)
