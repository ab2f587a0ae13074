"""docs/settings-of-other-libraries.md says what the readers do."""

import difflib
import re

import pytest
from folders import ROOT

from jaxmaskrcnn.config import BoxStageConfig
from jaxmaskrcnn.config.paths import settings
from jaxmaskrcnn.convert.detectron2 import rows as detectron2
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.mmdet import neck
from jaxmaskrcnn.convert.mmdet import rows as mmdet
from jaxmaskrcnn.convert.mmdet.backbone import BACKBONE, RESNET
from jaxmaskrcnn.convert.torchvision import rows as torchvision
from jaxmaskrcnn.zoo.lookup import model_config

PAGE = (ROOT / "docs" / "settings-of-other-libraries.md").read_text()
# matterport's table is in docs/conversion.md; test_matterport_files.py compares it.
PRESETS = {
    "torchvision": "torchvision/maskrcnn_resnet50_fpn",
    "detectron2": "detectron2/mask_rcnn_R_50_FPN_3x",
    "mmdet": "mmdet/mask-rcnn_r50_fpn_1x_coco",
}
ROWS = {
    "torchvision": (
        *torchvision.SETTINGS, *torchvision.BACKBONE, *torchvision.RPN, *torchvision.BOX_POOL,
        *torchvision.MASK_POOL,
    ),
    "detectron2": (
        *detectron2.SETTINGS, *detectron2.MASK_SETTINGS, detectron2.BOX_NORM, detectron2.MASK_NORM
    ),
    "mmdet": (
        *mmdet.DATA_PREPROCESSOR, *BACKBONE, *RESNET, *neck.ROWS, *mmdet.RPN, *mmdet.BOX,
        *mmdet.BOX_HEAD_LAYERS, *mmdet.MASKS, *mmdet.MASK, *mmdet.MASK_POOL, *mmdet.TEST, *mmdet.TRAIN,
        *mmdet.PROPOSAL,
    ),
}  # fmt: skip

# Settings that functions read, not rows: what is changed for the other value to be written.
_SIZES = {"rpn.anchors.sizes": ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,))}
_CONVS = {"box.convs": 4, "box.fcs": 1}
_RESNEXT = {"backbone.groups": 32, "backbone.width_per_group": 4}
_DEFORMABLE = {
    "backbone.deformable_stages": (4, 5),
    "backbone.deformable_masks": True,
    "backbone.deformable_groups": 2,
}
_DC5 = {
    "neck": None,
    "input.pad_divisor": 32,
    "backbone.outputs": (5,),
    "backbone.dilated_c5": True,
    "rpn.anchors.sizes": ((32.0, 64.0),),
}
CASCADE = {
    "box.class_agnostic": True,
    "box.stages": (
        BoxStageConfig(foreground_iou=0.4, box_weights=(9.0, 9.0, 4.0, 4.0)),
        BoxStageConfig(foreground_iou=0.7),
    ),
}
CHANGES = {
    "rpn_anchor_generator.sizes": _SIZES,
    "rpn_anchor_generator.aspect_ratios": {"rpn.anchors.ratios": (0.5, 1.0)},
    "box_head.representation_size": {"box.fc_dim": 512},
    "box_head.conv_layers": _CONVS,
    "box_head.fc_layers": _CONVS,
    "box_head.norm_layer": {**_CONVS, "box.norm": "bn"},
    "mask_head.layers": {"mask.convs": 2},
    "mask_head.norm_layer": {"mask.norm": "bn"},
    "mask_predictor.dim_reduced": {"mask.dim": 128},
    "MODEL.ANCHOR_GENERATOR.SIZES": _SIZES,
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": {"rpn.anchors.ratios": (0.5, 1.0)},
    "MODEL.RPN.CONV_DIMS": {"rpn.convs": 2},
    "MODEL.RESNETS.WIDTH_PER_GROUP": _RESNEXT,
    "MODEL.RESNETS.NUM_GROUPS": _RESNEXT,
    "MODEL.RESNETS.DEPTH": {"backbone.depth": 101},
    "MODEL.RESNETS.STRIDE_IN_1X1": {"backbone.stride_in_1x1": False},
    "MODEL.RESNETS.NORM": {"backbone.norm": "gn"},
    "MODEL.RESNETS.STEM_OUT_CHANNELS": {"backbone.width": 32},
    "MODEL.RESNETS.RES5_DILATION": _DC5,
    "MODEL.RESNETS.OUT_FEATURES": _DC5,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": _DEFORMABLE,
    "MODEL.RESNETS.DEFORM_MODULATED": _DEFORMABLE,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": _DEFORMABLE,
    "MODEL.BACKBONE.FREEZE_AT": {"backbone.freeze_at": 3},
    "MODEL.FPN.OUT_CHANNELS": {"neck.channels": 128},
    "MODEL.FPN.NORM": {"neck.norm": "gn"},
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": CASCADE,
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": CASCADE,
    "roi_head.stage_loss_weights": CASCADE,
    "SOLVER.WEIGHT_DECAY_NORM": {"compute.weight_decay_exempts_norm": False},
    "backbone.groups": _RESNEXT,
    "backbone.base_width": _RESNEXT,
    "backbone.type": _RESNEXT,
    "neck.type": {"neck": "pafpn"},
    "roi_head.bbox_roi_extractor.type": {"extractor": "groie"},
    "roi_head.mask_roi_extractor.type": {"extractor": "groie"},
    "backbone.strides": _DC5,
    "backbone.dilations": _DC5,
    "backbone.out_indices": _DC5,
    "backbone.stage_with_dcn": _DEFORMABLE,
    "backbone.dcn.type": _DEFORMABLE,
    "backbone.dcn.deform_groups": _DEFORMABLE,
    "backbone.norm_cfg": {"backbone.norm": "gn"},
    "backbone.conv_cfg": {"backbone.norm": "gn_ws"},
    "backbone.plugins": {"backbone.context_stages": (3, 4), "backbone.context_reduction": 4},
    "backbone.norm_eval": {"backbone.norm": "bn"},
    "neck.norm_cfg": {"neck.norm": "gn"},
    "rpn_head.anchor_generator.scales": _SIZES,
    "rpn_head.anchor_generator.base_sizes": {
        "rpn.anchors.sizes": ((16.0,), (40.0,), (64.0,), (128.0,), (256.0,))
    },
    "roi_head.bbox_head.norm_cfg": {**_CONVS, "box.norm": "gn"},
    "roi_head.mask_head.norm_cfg": {"mask.norm": "gn"},
    "rpn_head.loss_bbox": {"rpn.loss.beta": 0.5},
    "roi_head.bbox_head.loss_bbox": {"box.loss.beta": 0.5},
    "roi_head.bbox_head.reg_decoded_bbox": {"box.loss.form": "iou"},
}
# Kinds of parts, whose other values are other models: tested with the presets that have them.
KINDS = {"MODEL.BACKBONE.NAME", "MODEL.ROI_HEADS.NAME", "roi_head.bbox_head.type"}


def documented(library):
    """The rows of a library's table: key, and fields here."""
    title = {"torchvision": "torchvision", "detectron2": "Detectron2", "mmdet": "MMDetection"}[library]
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (table,) = [text for text in section if text.startswith(f"{title}\n")]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, re.MULTILINE)
    assert len({key for key, _ in rows}) == len(rows)
    return {key: tuple(re.findall(r"`([^`]+)`", fields)) for key, fields in rows}


@pytest.mark.parametrize("library", sorted(PRESETS))
def test_the_tables_have_the_readers_rows(library):
    rows = {
        row.key: row.field if isinstance(row.field, tuple) else (row.field,)
        for row in ROWS[library]
        if row.field is not None
    }
    table = documented(library)
    assert {key: table.get(key) for key in rows} == rows
    rest = table.keys() - rows.keys() - KINDS
    assert rest <= CHANGES.keys(), rest - CHANGES.keys()


@pytest.mark.parametrize("library", sorted(PRESETS))
def test_every_field_is_a_setting(library):
    config = model_config(PRESETS[library])
    paths = {path for path, _, _ in settings(config)} | {"backbone", "neck", "trunk", "mask"}
    assert {field for fields in documented(library).values() for field in fields} <= paths


def cases():
    for library in sorted(PRESETS):
        rows = {row.key for row in ROWS[library] if row.field is not None}
        for key in documented(library).keys() - rows - KINDS:
            yield library, key


@pytest.mark.parametrize(("library", "key"), sorted(cases()))
def test_what_functions_read_is_where_the_page_says(library, key):
    """Another value of the fields is written under the key, and read back from there."""
    found = LIBRARIES[library]
    config = model_config(PRESETS[library])
    changed = config.replace(CHANGES[key])
    before, after = (found.write_settings(x) for x in (config, changed))
    lines = [line[1:] for line in difflib.ndiff(before.split("\n"), after.split("\n")) if line[0] in "+-"]
    words = set(re.findall(r"\w+", " ".join(lines)))
    context = set(re.findall(r"\w+", after))
    name = key.split(".")[-1]
    assert name in (words if library != "mmdet" else context)
    back = found.read_settings(after, "the text")
    for field in documented(library)[key]:
        if field not in ("backbone", "neck", "trunk"):
            assert back.get(field) == changed.get(field)
