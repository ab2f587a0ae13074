"""A ResNet's last stage that an MMDetection model applies to pooled regions, and the heads after it.

Source: ``mmdet/models/roi_heads/shared_heads/res_layer.py`` and ``roi_heads/standard_roi_head.py`` (version
3.3).
"""

from jaxmaskrcnn.config import ModelConfig, Res5Config
from jaxmaskrcnn.convert.mmdet import rows
from jaxmaskrcnn.convert.mmdet.part import Flat, PartSettings
from jaxmaskrcnn.names.config_table import MISSING, Settings, fixed, write
from jaxmaskrcnn.names.conversions import only

SHARED_HEAD = "roi_head.shared_head"
_NORM = f"{SHARED_HEAD}.norm_cfg"
_NORM_EVAL = f"{SHARED_HEAD}.norm_eval"
_HEAD = (
    fixed(f"{SHARED_HEAD}.type", MISSING, "ResLayer", always=True),
    fixed(f"{SHARED_HEAD}.stage", 3, 3),
    fixed(f"{SHARED_HEAD}.stride", 2, 2),
    fixed(f"{SHARED_HEAD}.dilation", 1, 1),
    fixed(f"{SHARED_HEAD}.dcn", None, None),
    # The heads share its regions, and the box head averages them.
    fixed("roi_head.mask_roi_extractor", None, None, always=True),
    fixed("roi_head.bbox_head.type", MISSING, "BBoxHead"),
    fixed("roi_head.bbox_head.with_avg_pool", False, True),
)
# Settings that the backbone has as well, with the defaults of both.
_SAME = (
    ("depth", MISSING, MISSING),
    ("style", "pytorch", "pytorch"),
    ("norm_eval", True, True),
    ("norm_cfg.type", "BN", "BN"),
    ("norm_cfg.requires_grad", True, True),
    ("norm_cfg.eps", 1e-5, 1e-5),
)
KNOWN = {
    SHARED_HEAD,
    _NORM,
    "roi_head.mask_roi_extractor",
    *(setting.key for setting in _HEAD),
    *(f"{SHARED_HEAD}.{name}" for name, *_ in _SAME),
}


def _read(settings: Settings, config: Flat) -> None:
    """Read the stage and the layers that follow from it, or that there is none."""
    config |= {"trunk": None, "box.average": False}
    given = settings.values.get(SHARED_HEAD)
    if not settings.has(SHARED_HEAD):
        if given is not None:
            settings.refuse(SHARED_HEAD, given, "None or a dictionary")
        return
    settings.fields(_HEAD)
    for name, default, backbone_default in _SAME:
        expected = settings.values.get(f"backbone.{name}", backbone_default)
        found = settings.values.get(f"{SHARED_HEAD}.{name}", default)
        if not only(expected).reads(found):
            settings.refuse(f"{SHARED_HEAD}.{name}", found, f"that of the backbone, {expected!r}")
    others = {"backbone.width": (64, None), "backbone.groups": (1, None)}
    wrong = [path for path, allowed in others.items() if config.get(path) not in allowed]
    if wrong or config["neck"] or config.get("backbone.outputs") not in ((4,), None):
        text = "None, or a backbone 'ResNet' with 64 channels and out_indices (2,) and no neck"
        settings.refuse(f"{SHARED_HEAD}.type", settings.values.get(f"{SHARED_HEAD}.type"), text)
        return
    config |= {"trunk": Res5Config.kind, "box.convs": 0, "box.fcs": 0, "box.average": True}
    side = settings.get(rows.BOX_SIDE)
    if config["box.pool.size"] is not None:
        expected = Res5Config().side(config["box.pool.size"])
        if side not in (None, expected):
            settings.refuse(rows.BOX_SIDE.key, side, f"half of the roi_layer's output_size, {expected}")
    if config["mask"] is True:
        for name in ("size", "aligned", "sampling_ratio"):
            config[f"mask.pool.{name}"] = config[f"box.pool.{name}"]


def _write(config: ModelConfig) -> Flat:
    """The counterpart of `_read`; the backbone's settings are repeated."""
    if config.trunk is None:
        return {}
    norm = config.backbone.norm
    values = write(_HEAD, config, config)
    if config.mask is None:
        del values["roi_head.mask_roi_extractor"]
    return values | {
        f"{SHARED_HEAD}.depth": config.backbone.depth,
        f"{SHARED_HEAD}.style": "caffe" if config.backbone.stride_in_1x1 else "pytorch",
        _NORM_EVAL: norm in ("frozen_bn", "bn_eval"),
        f"{_NORM}.type": "BN",
        f"{_NORM}.requires_grad": norm != "frozen_bn",
        f"{_NORM}.eps": config.backbone.norm_epsilon,
        rows.BOX_SIDE.key: config.region_side(config.box.pool),
    }


PART = PartSettings(_read, _write, lambda: KNOWN)
