"""Detectors to the files of torchvision, Detectron2 and MMDetection.

A state dict holds weights alone. What else a model needs to give the same detections there is
written out in that library's words, and what the library cannot do is told.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.conventions import DETECTRON2, MMDET, TORCHVISION
from jaxmaskrcnn.convert.choice import fitting_presets
from jaxmaskrcnn.convert.export_mmdet import mmdet_settings
from jaxmaskrcnn.convert.export_settings import detectron2_settings, torchvision_settings
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import to_state_dict
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.fpn import STRIDES
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN


class ExportReport(NamedTuple):
    """What `export_detector` did.

    Attributes:
        path: The file.
        library: Title of the library.
        arrays: Number of arrays in the file.
        counters: Names of the ``num_batches_tracked`` among them, which are 0: no model here keeps
            them.
        settings: What to set in that library, as it is written there.
        differences: What that library does otherwise than the model, whatever is set.
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
    limits = _LIMITS[format]
    title = LIBRARIES[format].title
    for impossible, what in limits.impossible:
        if impossible(model.config):
            raise UserError(f"{title} cannot express this model: {what}; export it in another format.")
    arrays = to_state_dict(model, format)
    write_state_dict(path, arrays, format)
    return ExportReport(
        path=os.fspath(path),
        library=title,
        arrays=len(arrays),
        counters=tuple(name for name in arrays if name.endswith("num_batches_tracked")),
        settings=settings_text(model.config, format),
        differences=_differences(model.config, limits),
    )


def settings_text(config: ModelConfig, format: str) -> str:
    """What a model needs besides its weights, as another library writes it.

    Args:
        config: Of the model.
        format: "torchvision" (a call), "detectron2" (a yaml) or "mmdet" (a Python config).
    """
    return _LIMITS[format].settings(config)


def _torchvision_text(config: ModelConfig) -> str:
    """A call of the model's constructor, without the arguments that have their default."""
    values, usual = torchvision_settings(config), torchvision_settings(ModelConfig())
    usual["num_classes"] = None
    arguments = {name: value for name, value in values.items() if value != usual[name]}
    if config.anchor_sizes != ModelConfig.anchor_sizes or config.anchor_ratios != ModelConfig.anchor_ratios:
        sizes, ratios = tuple((int(x),) for x in config.anchor_sizes), tuple(config.anchor_ratios)
        arguments["rpn_anchor_generator"] = _Code(f"AnchorGenerator({sizes!r}, {(ratios,)!r} * 5)")
    for name, side, usual_side in (
        ("box_roi_pool", config.box_pool_size, 7), ("mask_roi_pool", config.mask_pool_size, 14)
    ):  # fmt: skip
        if (side, config.roi_sampling_ratio) != (usual_side, 2):
            ratio = config.roi_sampling_ratio or -1
            maps = ["0", "1", "2", "3"]
            arguments[name] = _Code(f"MultiScaleRoIAlign({maps!r}, {side}, sampling_ratio={ratio})")
    lines = [f"    {name}={value!r}," for name, value in arguments.items()]
    fitting = fitting_presets(LIBRARIES["torchvision"], config_structure(config))
    if fitting:  # presets have the names of torchvision's functions
        function = fitting[0].split("/")[1]
        call = [f"model = {function}(", "    weights=None,", "    weights_backbone=None,", *lines, ")"]
    else:
        function = "MaskRCNN" if config.mask_head else "FasterRCNN"
        call = [
            f"model = {function}(",
            "    backbone,  # and other layers of this model's sizes",
            *lines,
            ")",
        ]
    if config.norm_epsilon != 1e-5:
        call += ["for layer in model.backbone.body.modules():", '    if hasattr(layer, "eps"):']
        call += [f"        layer.eps = {config.norm_epsilon!r}"]
    return "\n".join(call) + "\n"


def _yaml_text(values: dict[str, Any], indent: int = 0) -> str:
    """Nested dictionaries of plain values as yaml."""
    lines = ""
    for name, value in values.items():
        nested = isinstance(value, dict)
        lines += f"{' ' * indent}{name}:" + ("\n" if nested else f" {_yaml_value(value)}\n")
        lines += _yaml_text(value, indent + 2) if nested else ""
    return lines


def _yaml_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml_value, value))}]"
    if isinstance(value, str):
        return value or '""'
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _python_text(values: dict[str, Any]) -> str:
    """Variables as MMDetection's config files write them."""
    return "".join(f"{name} = {_python_value(value, 0)}\n" for name, value in values.items())


def _python_value(value: Any, indent: int) -> str:
    space = "\n" + " " * (indent + 4)
    if isinstance(value, list) and any(isinstance(x, dict) for x in value):
        return f"[{space}{f',{space}'.join(_python_value(x, indent + 4) for x in value)},\n{' ' * indent}]"
    if not isinstance(value, dict):
        return repr(value)
    items = [f"{name}={_python_value(x, indent + 4)}" for name, x in value.items()]
    line = f"dict({', '.join(items)})"
    if len(line) <= 80 and "\n" not in line:
        return line
    return f"dict({space}{f',{space}'.join(items)},\n{' ' * indent})"


class _Code(str):
    """Text that is written without quotes."""

    __repr__ = str.__str__


Check = tuple[Callable[[ModelConfig], bool], str]


class _Limits(NamedTuple):
    """What a library can do with a model.

    Attributes:
        settings: Text of what to set there.
        impossible: Tests for models that it has no names or no place for, and what to say.
        fixed: Fields that cannot be set there, with the values they have there, as far as
            detections depend on them.
        others: Further tests for what cannot be set there, and what to say.
    """

    settings: Callable[[ModelConfig], str]
    impossible: tuple[Check, ...]
    fixed: dict[str, Any]
    others: tuple[Check, ...]


# Fields of all conventions that no library has a setting for.
_NEVER_SET = (
    "normalise_before_resize", "resize_kernel", "size_rule", "anchor_rounding", "anchor_stride",
    "rpn_ranking", "delta_clamp", "roi_level_rule", "roi_scale", "detection_min_side", "rescale_rule",
    "paste_rule",
)  # fmt: skip
_RPN_NORM = (lambda c: c.rpn_norm != "none", "its region proposal network has norm layers")


def _same_scale(config: ModelConfig) -> bool:
    return len({size / stride for size, stride in zip(config.anchor_sizes, STRIDES, strict=True)}) == 1


_LIMITS = {
    "torchvision": _Limits(
        settings=_torchvision_text,
        impossible=(
            _RPN_NORM,
            (lambda c: c.class_agnostic_boxes or c.class_agnostic_masks, "its heads are class-agnostic"),
            (
                lambda c: c.backbone_stride_in_1x1 and c.backbone_depth >= 50,
                "its bottlenecks have their stride in the 1x1 convolution",
            ),
            (lambda c: not c.box_convs and c.box_fcs != 2, "its box head has not two fully connected layers"),
        ),
        fixed={
            name: TORCHVISION[name] for name in (*_NEVER_SET, "rpn_min_side", "roi_aligned", "channel_order")
        },
        others=(),
    ),
    "detectron2": _Limits(
        settings=lambda config: _yaml_text(detectron2_settings(config)),
        impossible=(_RPN_NORM,),
        fixed={name: DETECTRON2[name] for name in (*_NEVER_SET, "norm_epsilon")} | {"mask_threshold": 0.5},
        others=(
            (
                lambda c: c.backbone_depth < 50 and c.backbone_width != 64,
                "its builder makes ResNet-18 and 34 with a stem of 64 channels only",
            ),
            (lambda c: c.rpn_min_side % 1 > 0, "the smallest proposal has whole pixels"),
        ),
    ),
    "mmdet": _Limits(
        settings=lambda config: _python_text(mmdet_settings(config)),
        impossible=(_RPN_NORM,),
        fixed={name: MMDET[name] for name in _NEVER_SET},
        others=((lambda c: not _same_scale(c), "its anchors have the same size on every level, in strides"),),
    ),
}


def _differences(config: ModelConfig, limits: _Limits) -> tuple[str, ...]:
    fixed = [
        f"{name} is {value!r} there and {getattr(config, name)!r} in the model"
        for name, value in limits.fixed.items()
        if getattr(config, name) != value
    ]
    return (*fixed, *(what for applies, what in limits.others if applies(config)))
