"""Settings of an MMDetection Panoptic FPN: its semantic head, and how segments are made.

Source: ``mmdet/models/seg_heads``, ``mmdet/models/detectors/panoptic_fpn.py`` (version 3.3).
"""

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.semantic import IGNORED, stuff_names
from jaxmaskrcnn.convert.extras import Extra
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.convert.mmdet.parts import norm_settings, read_norm
from jaxmaskrcnn.names.config_table import Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import FRACTION, Conversion, choice, number, whole
from jaxmaskrcnn.zoo.conventions import MMDET_SEMANTIC

HEAD, FUSION = "semantic_head", "panoptic_fusion_head"
NORM = f"{HEAD}.norm_cfg"
_STUFF = Conversion("whole numbers of at least 1", lambda n: stuff_names(whole(1).read(n)), len)

SETTINGS = (
    fixed(f"{HEAD}.type", None, "PanopticFPNHead"),
    Setting(f"{HEAD}.num_things_classes", 80, whole(1), "num_classes"),
    Setting(f"{HEAD}.num_stuff_classes", 53, _STUFF, "semantic.stuff"),
    Setting(f"{HEAD}.inner_channels", 128, whole(1), "semantic.dim"),
    fixed(f"{HEAD}.start_level", 0, 0),
    fixed(f"{HEAD}.end_level", 4, 4),
    fixed(f"{HEAD}.conv_cfg", None, None),
    fixed(f"{HEAD}.loss_seg.type", "CrossEntropyLoss", "CrossEntropyLoss", training=True, always=True),
    fixed(f"{HEAD}.loss_seg.ignore_index", -1, IGNORED, training=True),
    fixed(f"{HEAD}.loss_seg.use_sigmoid", False, False, training=True),
    fixed(f"{HEAD}.loss_seg.class_weight", None, None, training=True),
    Setting(f"{HEAD}.loss_seg.loss_weight", 1.0, number(), "semantic.loss_weight", training=True),
    Setting(
        f"{HEAD}.loss_seg.avg_non_ignore",
        False,
        choice({False: "all", True: "labelled"}),
        "semantic.loss_count",
        training=True,
    ),
    fixed(f"{FUSION}.type", None, "HeuristicFusionHead"),
    Setting(f"{FUSION}.num_things_classes", 80, whole(1), "num_classes"),
    Setting(f"{FUSION}.num_stuff_classes", 53, _STUFF, "semantic.stuff"),
    Setting("test_cfg.panoptic.mask_overlap", 0.5, FRACTION, "semantic.overlap_threshold"),
    Setting("test_cfg.panoptic.stuff_area_limit", 4096, whole(0), "semantic.stuff_area"),
)
# The others follow from the model, or are MMDetection's tools'.
KNOWN = {row.key for row in SETTINGS} | {
    f"{HEAD}.in_channels", NORM, *(f"{NORM}.{x}" for x in ("type", "num_groups", "requires_grad", "eps")),
}  # fmt: skip


DETECTOR = "PanopticFPN"


def _read(settings: Settings, config: Flat) -> None:
    config["semantic"] = settings.has(HEAD)
    if not config["semantic"]:
        return
    config |= {**MMDET_SEMANTIC, **settings.fields(SETTINGS)}
    if not config["mask"]:
        settings.problem("roi_head.mask_head", f"roi_head.mask_head is missing; {DETECTOR} needs masks")
    if not settings.has(NORM) and NORM not in settings.values:
        settings.values |= {f"{NORM}.type": "GN", f"{NORM}.num_groups": 32}
    config["semantic.norm"] = read_norm(settings, NORM)


def _write(config: ModelConfig) -> Flat:
    if config.semantic is None:
        return {}
    channels = config.pooled_levels[0].channels
    # Without the setting the head has group norm.
    norm = norm_settings(NORM, config.semantic.norm) or {NORM: None}
    return {"type": DETECTOR, f"{HEAD}.in_channels": channels, **write(SETTINGS, config, USUAL), **norm}


PART = PartSettings(
    _read,
    _write,
    lambda: KNOWN,
    (
        Extra(
            lambda c: c.semantic is not None and c.semantic.things == "last",
            "the class of all things comes last among the logits of its semantic head",
        ),
    ),
)
