"""Detectors to the files of torchvision, Detectron2 and MMDetection.

A state dict holds weights alone. What else a model needs to give the same detections there is
written out in that library's words. Reading that text back shows what the library cannot do.
"""

import os
from typing import Any, NamedTuple

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.conversions import rounded, short
from jaxmaskrcnn.convert.fields import field_names, get_field, with_fields
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.convert.libraries import LIBRARIES, Library
from jaxmaskrcnn.convert.state_dict import check_background, to_state_dict
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN

# Fields on which a trained model's detections do not depend.
_TRAINING_ONLY = (
    "freeze_at", "rpn_pre_nms_train", "rpn_post_nms_train", "rpn_foreground_iou", "rpn_background_iou",
    "rpn_low_quality", "rpn_low_quality_min_iou", "rpn_batch_size", "rpn_positive_fraction",
    "rpn_loss_count", "iou_epsilon", "ground_truth_proposals", "roi_batch_size", "roi_positive_fraction",
    "roi_foreground_iou", "roi_low_quality", "crowd_regions", "crowd_overlap", "smooth_l1_beta",
    "mask_targets", "weight_decay_exempts_norm", "remat",
)  # fmt: skip


class ExportReport(NamedTuple):
    """What `export_detector` did.

    Attributes:
        path: The file.
        library: Title of the library.
        arrays: Number of arrays in the file.
        counters: Names of the ``num_batches_tracked`` among them, which are 0: no model here keeps
            them.
        settings: What to set in that library, as it is written there.
        differences: What that library does otherwise than the model, whatever is set, one line each; it
            begins with the name of a field of ModelConfig where there is one.
    """

    path: str
    library: str
    arrays: int
    counters: tuple[str, ...]
    settings: str
    differences: tuple[str, ...]


def export_detector(model: MaskRCNN, path: str | os.PathLike, format: str) -> ExportReport:
    """Write a detector's weights as another library's state dict.

    Args:
        model: The detector.
        path: A ``.safetensors``, ``.npz``, ``.pkl`` or (where torch is installed) ``.pth`` file; one
            that is there is replaced in one step.
        format: "torchvision", "detectron2" or "mmdet".

    Returns:
        A report. The arrays are the model's bit for bit; `load_detector` reads them back.

    Raises:
        UserError: The library has no such model, or the file cannot be written.

    Example:
        >>> report = export_detector(model, "model_final.pkl", "detectron2")  # doctest: +SKIP
        >>> Path("model_final.yaml").write_text(report.settings)  # doctest: +SKIP
    """
    if format not in LIBRARIES:
        raise UserError(f"There is no format {format!r}; choose one of {', '.join(LIBRARIES)}.")
    settings, differences = export_settings(model.config, format)
    arrays = to_state_dict(model, format)
    write_state_dict(path, arrays, format)
    return ExportReport(
        path=os.fspath(path),
        library=LIBRARIES[format].title,
        arrays=len(arrays),
        counters=tuple(name for name in arrays if name.endswith("num_batches_tracked")),
        settings=settings,
        differences=differences,
    )


def export_settings(config: ModelConfig, format: str) -> tuple[str, tuple[str, ...]]:
    """What a model needs besides its weights, as another library writes it, and how it differs there.

    Args:
        config: Of the model.
        format: "torchvision" (a call), "detectron2" (a yaml) or "mmdet" (a Python config).

    Returns:
        The text, and the lines for ``ExportReport.differences``.

    Raises:
        UserError: The library has no such model.

    Example:
        >>> text, differences = export_settings(ModelConfig(background="last"), "detectron2")
        >>> differences[0]
        'normalise_before_resize is False there and True in the model'
    """
    library = LIBRARIES[format]
    check_background(config, library)
    for impossible, what in library.impossible:
        if impossible(config):
            raise UserError(
                f"{library.title} cannot express this model: {what}; export it in another format."
            )
    config = _with_unit(config, library)
    settings = library.write_settings(config)
    return settings, _differences(config, library, settings)


def settings_text(config: ModelConfig, format: str) -> str:
    """What a model needs besides its weights, as another library writes it; see `export_settings`."""
    return export_settings(config, format)[0]


def _with_unit(config: ModelConfig, library: Library) -> ModelConfig:
    """The same normalisation with pixels of 0..255 or 0..1, as the library has them."""
    old, new = get_field(config, "pixel_scale"), get_field(library.usual, "pixel_scale")
    if old == new:
        return config
    mean, std = (
        tuple(rounded(x * new / old) for x in get_field(config, name)) for name in ("pixel_mean", "pixel_std")
    )
    return with_fields(config, {"pixel_scale": new, "pixel_mean": mean, "pixel_std": std})


def _differences(config: ModelConfig, library: Library, settings: str) -> tuple[str, ...]:
    """How the written settings differ from the configuration, when the library's config is read."""
    there = library.read_settings(settings, "the exported settings")
    without_effect = _without_effect(config)
    lines = []
    for name in field_names():
        found, own = get_field(there, name), get_field(config, name)
        if found != own and name not in without_effect:
            lines.append(
                f"{name} is {short(found)} there and {short(own)} in the model{_note(name, found, own)}"
            )
    return (*lines, *(what for applies, what in library.limits if applies(config)))


def _note(name: str, found: Any, own: Any) -> str:
    """What a difference is about where it is not about detections."""
    if name == "categories":
        return " (names only)"
    # Of batch norm the statistics are the same at test time, whatever is trained.
    norms = name == "backbone_norm" and {found, own} <= {"frozen_bn", "bn_eval", "bn"}
    return " (training only)" if norms or name in _TRAINING_ONLY else ""


def _without_effect(config: ModelConfig) -> set[str]:
    """Fields of parts that a model does not have."""
    names = set()
    if get_field(config, "backbone_depth") < 50:
        names |= {"backbone_groups", "backbone_width_per_group", "backbone_stride_in_1x1"}
    if not get_field(config, "box_convs"):
        names.add("box_conv_dim")
    if not get_field(config, "box_fcs"):
        names.add("box_fc_dim")
    mask = get_field(config, "mask_head")
    if not mask:
        names |= {"mask_pool_size", "mask_convs", "mask_dim", "class_agnostic_masks", "mask_targets"}
        names |= {"mask_threshold", "paste_rule"}
    if not get_field(config, "box_convs") and not (mask and get_field(config, "mask_convs")):
        names.add("head_norm")
    return names
