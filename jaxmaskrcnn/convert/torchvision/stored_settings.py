"""Settings of a torchvision model that its state dict does not hold, from where they may stand.

They are the keyword arguments of torchvision's constructors. A script's arguments can be written in a json
beside the checkpoint, with the checkpoint's name and the suffix ".json":

    {"rpn_anchor_generator": {"sizes": [[16], [32], [64], [128], [256]], "aspect_ratios": [[0.5, 1, 2]]},
     "min_size": 400, "box_score_thresh": 0.3}

A whole model that was pickled, ``torch.save(model, path)``, has them as attributes of its modules.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.anchors import read_anchors, sizes_and_ratios
from jaxmaskrcnn.convert.files.reader import WHOLE, SourceFile
from jaxmaskrcnn.convert.files.whole_models import attributes, child, is_module
from jaxmaskrcnn.convert.library import StoredSettings
from jaxmaskrcnn.convert.torchvision import rows
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.config_table import Settings, flatten
from jaxmaskrcnn.utils.json_values import parse_json

_LARGEST = 100_000  # bytes of a json with arguments; larger ones are something else
# Arguments of functions such as maskrcnn_resnet50_fpn that say nothing of a trained model.
_UNUSED = (
    "num_classes", "num_keypoints", "pretrained", "pretrained_backbone", "progress",
    "trainable_backbone_layers",
    "weights", "weights_backbone",
)  # fmt: skip
_TABLE = tuple(s for s in rows.SETTINGS if s.key not in ("type", "num_classes")) + rows.BOX_POOL
KNOWN = (*(s.key for s in (*_TABLE, *rows.head_pools(True, True))), *rows.ANCHORS, *_UNUSED)

# Where a whole model has an argument: the module, and the attribute or the item of one.
_ATTRIBUTES = {
    "min_size": ("transform", "min_size"),
    "max_size": ("transform", "max_size"),
    "image_mean": ("transform", "image_mean"),
    "image_std": ("transform", "image_std"),
    "size_divisible": ("transform", "size_divisible"),
    "rpn_pre_nms_top_n_train": ("rpn", "_pre_nms_top_n.training"),
    "rpn_pre_nms_top_n_test": ("rpn", "_pre_nms_top_n.testing"),
    "rpn_post_nms_top_n_train": ("rpn", "_post_nms_top_n.training"),
    "rpn_post_nms_top_n_test": ("rpn", "_post_nms_top_n.testing"),
    "rpn_nms_thresh": ("rpn", "nms_thresh"),
    "rpn_score_thresh": ("rpn", "score_thresh"),
    "rpn_fg_iou_thresh": ("rpn", "proposal_matcher.high_threshold"),
    "rpn_bg_iou_thresh": ("rpn", "proposal_matcher.low_threshold"),
    "rpn_batch_size_per_image": ("rpn", "fg_bg_sampler.batch_size_per_image"),
    "rpn_positive_fraction": ("rpn", "fg_bg_sampler.positive_fraction"),
    "rpn_anchor_generator.sizes": ("rpn.anchor_generator", "sizes"),
    "rpn_anchor_generator.aspect_ratios": ("rpn.anchor_generator", "aspect_ratios"),
    "box_score_thresh": ("roi_heads", "score_thresh"),
    "box_nms_thresh": ("roi_heads", "nms_thresh"),
    "box_detections_per_img": ("roi_heads", "detections_per_img"),
    "box_fg_iou_thresh": ("roi_heads", "proposal_matcher.high_threshold"),
    "box_bg_iou_thresh": ("roi_heads", "proposal_matcher.low_threshold"),
    "box_batch_size_per_image": ("roi_heads", "fg_bg_sampler.batch_size_per_image"),
    "box_positive_fraction": ("roi_heads", "fg_bg_sampler.positive_fraction"),
    "bbox_reg_weights": ("roi_heads", "box_coder.weights"),
    "box_roi_pool.featmap_names": ("roi_heads.box_roi_pool", "featmap_names"),
    "box_roi_pool.output_size": ("roi_heads.box_roi_pool", "output_size"),
    "box_roi_pool.sampling_ratio": ("roi_heads.box_roi_pool", "sampling_ratio"),
    "mask_roi_pool.featmap_names": ("roi_heads.mask_roi_pool", "featmap_names"),
    "mask_roi_pool.output_size": ("roi_heads.mask_roi_pool", "output_size"),
    "mask_roi_pool.sampling_ratio": ("roi_heads.mask_roi_pool", "sampling_ratio"),
    "keypoint_roi_pool.featmap_names": ("roi_heads.keypoint_roi_pool", "featmap_names"),
    "keypoint_roi_pool.output_size": ("roi_heads.keypoint_roi_pool", "output_size"),
    "keypoint_roi_pool.sampling_ratio": ("roi_heads.keypoint_roi_pool", "sampling_ratio"),
}


def stored_settings(config: ModelConfig, source: SourceFile) -> StoredSettings | None:
    """Add the settings that stand in a file, or in the json beside it.

    Args:
        config: The configuration that the arrays imply.
        source: The file.

    Returns:
        The configuration with these settings; None if there are none.

    Raises:
        UserError: They cannot be read, or are not supported.
    """
    module = source.attributes.get(WHOLE)
    if is_module(module):
        arguments = arguments_of_module(module)
        where = f"the model inside {source.path}"
        epsilon = attributes(child(module, "backbone.body.bn1")).get("eps")
        return StoredSettings(
            with_arguments(config, arguments, where),
            "Anchors, image sizes, thresholds and the like are those of the model inside the file.",
            float(epsilon) if isinstance(epsilon, (int, float)) and 0 <= epsilon <= 1 else None,
        )
    file = json_beside(source.path)
    arguments = _read_json(file) if file.is_file() and file.stat().st_size <= _LARGEST else {}
    if not arguments:
        return None
    names = ", ".join(key for key in flatten(arguments, str(file)) if key not in _UNUSED)
    return StoredSettings(
        with_arguments(config, arguments, str(file)), f"{file} gives {names or 'no settings'}."
    )


def json_beside(path: str | os.PathLike) -> Path:
    """Return the path of the json that can hold a checkpoint's keyword arguments.

    Args:
        path: The checkpoint.

    Example:
        >>> json_beside("runs/nuclei.pth").name
        'nuclei.json'
    """
    return Path(path).with_suffix(".json")


def with_arguments(config: ModelConfig, arguments: Mapping[str, Any], source: str) -> ModelConfig:
    """Return a configuration with keyword arguments of torchvision's constructors.

    Args:
        config: The configuration, which gives what the arguments leave out.
        arguments: Values by name; those of a part, such as ``rpn_anchor_generator``, as a dictionary.
        source: Where they stand, for messages.

    Raises:
        UserError: An argument is unknown, or its value is not supported; lists all of them.

    Example:
        >>> from jaxmaskrcnn.zoo.lookup import model_config
        >>> config = model_config("torchvision/maskrcnn_resnet50_fpn")
        >>> with_arguments(config, {"box_score_thresh": 0.3}, "here").detections.score_threshold
        0.3
    """
    settings = Settings(flatten(arguments, source), "torchvision", source)
    values = settings.values
    sizes = values.get("min_size")
    if isinstance(sizes, (list, tuple)) and sizes:
        values["min_size"] = sizes[-1]  # the last one is used when the model is not trained
    for key in (f"{head}_roi_pool.output_size" for head in ("box", "mask", "keypoint")):
        side = values.get(key)
        if isinstance(side, (list, tuple)) and len(side) == 2 and side[0] == side[1]:
            values[key] = side[0]
    table = (*_TABLE, *rows.head_pools(config.mask, config.keypoints))
    found = settings.fields(setting for setting in table if setting.key in values)
    if any(key in values for key in rows.ANCHORS):
        for key, own in zip(rows.ANCHORS, sizes_and_ratios(config), strict=True):
            values.setdefault(key, own)
        found |= read_anchors(settings, rows.ANCHORS, config.levels, shared=True)
    if values.get("num_classes", config.num_classes + 1) != config.num_classes + 1:
        text = f"{config.num_classes + 1}, as the file has {config.num_classes} besides the background"
        settings.refuse("num_classes", values["num_classes"], text)
    settings.unknown(KNOWN, [key for key in values if key not in KNOWN])
    settings.finish(training=False)
    return config.replace({path: value for path, value in found.items() if value is not None})


def arguments_of_module(module: Any) -> dict[str, Any]:
    """Return the keyword arguments that a whole model was built with, as far as its modules have them.

    Args:
        module: A described module, from `files.whole_models`.
    """
    arguments: dict[str, Any] = {}
    for key, (path, name) in _ATTRIBUTES.items():
        value: Any = child(module, path)
        for part in name.split("."):
            # An item of a dictionary, or an attribute of an object.
            value = value.get(part) if isinstance(value, Mapping) else attributes(value).get(part)
        if value is not None:
            arguments[key] = value
    return arguments


def _read_json(file: Path) -> dict[str, Any]:
    """Read a json with arguments; {} for one that has none of them."""
    try:
        content = parse_json(file.read_bytes())
    except ValueError as error:
        raise UserError(
            f"{file} is read for torchvision's keyword arguments, as it has the checkpoint's name, but it is "
            f"not JSON ({error}); mend it or give it another name."
        ) from None
    if not isinstance(content, dict):
        return {}
    own = {key.split(".")[0] for key in KNOWN}
    return content if own & content.keys() else {}
