"""Export detectors to files of torchvision, Detectron2, MMDetection and matterport's Mask R-CNN.

A state dict holds only weights. The other settings that a model needs for the same detections are
written in the library's own format. Reading that text back reveals what the library does not support.
"""

import itertools
import os
from typing import Any, NamedTuple

from jaxmaskrcnn.config import MaskConfig, ModelConfig, PointRendConfig
from jaxmaskrcnn.config.backbones import GROUP_NORMS
from jaxmaskrcnn.config.paths import settings
from jaxmaskrcnn.convert.configs.anchors import order_matters
from jaxmaskrcnn.convert.extras import missing
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.convert.libraries import LIBRARIES, Library
from jaxmaskrcnn.convert.library import EVERYWHERE
from jaxmaskrcnn.convert.state_dict import check_background, to_state_dict
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.names.conversions import rounded, short

# Settings that do not affect a trained model's detections, and parts with only such settings.
_TRAINING_ONLY = (
    "backbone.freeze_at", "backbone.drop_path", "backbone.layer_scale",
    "rpn.pre_nms_train", "rpn.post_nms_train", "rpn.foreground_iou",
    "rpn.background_iou", "rpn.low_quality", "rpn.low_quality_min_iou", "rpn.iou_epsilon", "rpn.crowd",
    "rpn.crowd_overlap", "rpn.batch_size", "rpn.positive_fraction", "rpn.loss_count", "rpn.border",
    "rpn.batch_padding",
    "mask.targets", "mask.train_points", "mask.oversampling", "mask.importance", "box.stage_gradient",
    "box.federated", "compute.weight_decay_exempts_norm", "compute.remat",
    "keypoints.loss_count", "keypoints.loss_weight", "keypoints.min_per_image",
    "semantic.loss_weight", "semantic.loss_at", "semantic.loss_count",
)  # fmt: skip
_NORMS = ("backbone.norm", "box.norm", "box.fc_norm", "mask.norm")
_OF_CASCADES = (
    "box.stage_scores", "box.stage_gradient", "regions.later_stages", "regions.empty_boxes", "mask.heads",
)  # fmt: skip
_TRAINING_ONLY_PARTS = (
    "rpn.loss.", "regions.", "box.loss.", "box.class_loss.", "mask.loss.", "box.federated.",
)  # fmt: skip


class ExportReport(NamedTuple):
    """Report of `export_detector`.

    Attributes:
        path: The file.
        library: Title of the library.
        arrays: Number of arrays in the file.
        counters: Names of the ``num_batches_tracked`` among them, which are 0 because no model here
            has them.
        settings: The settings for that library, in its own format.
        differences: Remaining differences between that library and the model, one line each; a line
            starts with the dotted path of the setting if there is one.
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
        path: A ``.safetensors``, ``.npz``, ``.pkl`` or (if torch is installed) ``.pth`` file, or for
            matterport's an ``.h5`` file (if h5py is installed); an existing file is replaced atomically.
        format: "torchvision", "detectron2", "mmdet" or "matterport".

    Returns:
        A report. The arrays are the model's bit for bit; `load_detector` reads them back.

    Raises:
        UserError: The library does not support the model, or the file cannot be written.

    Example:
        >>> report = export_detector(model, "model_final.pkl", "detectron2")  # doctest: +SKIP
        >>> Path("model_final.yaml").write_text(report.settings)  # doctest: +SKIP
    """
    if format not in LIBRARIES:
        raise UserError(f"There is no format {format!r}; choose one of {', '.join(LIBRARIES)}.")
    text, differences = export_settings(model.config, format)
    arrays = to_state_dict(model, format)
    write_state_dict(path, arrays, format)
    return ExportReport(
        path=os.fspath(path),
        library=LIBRARIES[format].title,
        arrays=len(arrays),
        counters=tuple(name for name in arrays if name.endswith("num_batches_tracked")),
        settings=text,
        differences=differences,
    )


def export_settings(config: ModelConfig, format: str) -> tuple[str, tuple[str, ...]]:
    """Write a model's settings in another library's format, and list what differs there.

    Args:
        config: The model's configuration.
        format: "torchvision" (a call), "detectron2" (a yaml), "mmdet" (a Python config) or "matterport" (a
            class).

    Returns:
        The text, and the lines for ``ExportReport.differences``.

    Raises:
        UserError: The library does not support the model.

    Example:
        >>> text, differences = export_settings(ModelConfig(background="last"), "detectron2")
        >>> differences[0]
        'input.normalise_before_resize is False there and True in the model'
    """
    library = LIBRARIES[format]
    check_background(config, library)
    limits = (what for impossible, what in (*library.impossible, *EVERYWHERE) if impossible(config))
    for what in itertools.chain(missing(config, library, LIBRARIES.values()), limits):
        raise UserError(f"{library.title} cannot express this model: {what}; export it in another format.")
    config = _with_shared_ratios(_with_unit(config, library))
    text = library.write_settings(config)
    return text, _differences(config, library, text)


def settings_text(config: ModelConfig, format: str) -> str:
    """Write a model's settings in another library's format; see `export_settings`."""
    return export_settings(config, format)[0]


def _with_unit(config: ModelConfig, library: Library) -> ModelConfig:
    """Return the same normalisation in the library's pixel range, 0..255 or 0..1."""
    old, new = config.input.pixel_scale, library.usual.input.pixel_scale
    if old == new:
        return config
    mean, std = (
        tuple(rounded(x * new / old) for x in values)
        for values in (config.input.pixel_mean, config.input.pixel_std)
    )
    return config.replace({"input.pixel_scale": new, "input.pixel_mean": mean, "input.pixel_std": std})


def _with_shared_ratios(config: ModelConfig) -> ModelConfig:
    """Return the same anchors with one group of ratios for all levels if the groups are equal."""
    groups = {ratios for _, ratios in config.rpn.anchors.per_level}
    return config.replace({"rpn.anchors.ratios": groups.pop()}) if len(groups) == 1 else config


def _differences(config: ModelConfig, library: Library, text: str) -> tuple[str, ...]:
    """List how the written settings, when read back, differ from the configuration."""
    there, own = (
        {path: value for path, value, _ in settings(tree)}
        for tree in (library.read_settings(text, "the exported settings"), config)
    )
    lines = []
    for path in dict.fromkeys((*own, *there)):
        found, value = (values.get(path, _NO_SETTING) for values in (there, own))
        if found != value and not _without_effect(path, config):
            note = _note(path, found, value)
            lines.append(f"{path} is {short(found)} there and {short(value)} in the model{note}")
    return (*lines, *(what for applies, what in library.limits if applies(config)))


class _NoSetting:
    """The value of a setting whose part is missing from the model."""

    def __repr__(self) -> str:
        return "not set"


_NO_SETTING = _NoSetting()


def _note(path: str, found: Any, own: Any) -> str:
    """Mark a difference that does not affect detections."""
    if path in ("categories", "keypoints.points", "semantic.stuff", "semantic.ids"):
        return " (names only)"
    if path in ("keypoints.skeleton", "keypoints.flips", "keypoints.sigmas"):
        return " (drawing, training and evaluation only)"
    # Batch norm computes the same at test time, whichever of its arrays are trained.
    norms = path in _NORMS and {found, own} <= {"frozen_bn", "bn_eval", "bn"}
    training = path in _TRAINING_ONLY or path.startswith(_TRAINING_ONLY_PARTS)
    training |= path.startswith("box.stages.") and path.endswith((".foreground_iou", ".loss_weight"))
    return " (training only)" if norms or training else ""


def _without_effect(path: str, config: ModelConfig) -> bool:
    """Whether a setting has no effect because the model lacks the layers or parts concerned."""
    if path == "label_order":
        return True  # no library has a setting for it
    if path in ("backbone.groups", "backbone.width_per_group", "backbone.stride_in_1x1"):
        return config.backbone.kind == "resnet" and config.backbone.depth < 50
    if path in _OF_CASCADES:
        return len(config.box.stages) == 1
    if path == "rpn.anchors.order":
        return not order_matters(config)
    if path in ("box.conv_dim", "box.norm"):
        return not config.box.convs
    if path == "box.loss.beta":
        return config.box.loss.form != "smooth_l1"
    if path == "rpn.loss.beta":
        return config.rpn.loss.form != "smooth_l1"
    if path == "neck.norm_epsilon":
        return config.neck is not None and config.neck.norm == "none"
    if path == "box.norm_epsilon":
        return config.box.fc_norm == "none" and (
            config.box.norm in ("none", *GROUP_NORMS) or not config.box.convs
        )
    if path in ("mask.norm_epsilon", "mask.conv_bias"):
        return not isinstance(config.mask, MaskConfig) or config.mask.norm == "none" or not config.mask.convs
    if isinstance(config.mask, PointRendConfig):
        if path == "mask.channel_conv":
            return config.mask.grid_levels * config.pooled_levels[0].channels <= config.mask.dim
        if path == "mask.first_map":
            return config.mask.map_sides[0] > config.mask.coarse_side
    if path == "rpn.conv_dim":
        return config.rpn.conv_dim in (0, config.levels[0].channels)
    if path == "box.fc_dim":
        return not config.box.fcs
    if path == "mask.norm":
        return not isinstance(config.mask, MaskConfig) or not config.mask.convs
    of_masks = path.startswith("mask.") or path in ("detections.mask_threshold", "detections.paste_rule")
    return of_masks and config.mask is None
