"""The test pipeline of an MMDetection config: how images are resized and, in version 2, normalised."""

from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.python_values import Unreadable
from jaxmaskrcnn.convert.mmdet.rows import PADDING
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, flatten, write
from jaxmaskrcnn.names.conversions import choice, number, several, whole

_BACKEND = Setting(
    "pipeline.Resize.backend", "cv2", choice({"cv2": "cv2", "pillow": "pil"}), "input.resize_kernel"
)
# Settings of the test pipeline's steps that compute something, as "pipeline.STEP.NAME".
_PIPELINE = (
    fixed("pipeline.LoadImageFromFile.to_float32", False, False),
    fixed("pipeline.LoadImageFromFile.color_type", "color", "color"),
    _BACKEND,
    fixed("pipeline.Resize.interpolation", "bilinear", "bilinear"),
    fixed("pipeline.Resize.scale_factor", None, None),
    fixed("pipeline.Resize.ratio_range", None, None),
    fixed("pipeline.RandomFlip.prob", None, None, 0),
    fixed("pipeline.MultiScaleFlipAug.flip", False, False),
    fixed("pipeline.MultiScaleFlipAug.scale_factor", None, None),
    fixed("pipeline.Pad.size", None, None),
    fixed("pipeline.Pad.pad_to_square", False, False),
)
_SCALE = Setting("pipeline.Resize.scale", MISSING, several(whole(1), 2, "one pair of whole numbers"))
_KEEP_RATIO = fixed("pipeline.Resize.keep_ratio", False, True)
_NORMALIZE = (
    Setting("pipeline.Normalize.mean", MISSING, several(number(), 3), "input.pixel_mean"),
    Setting("pipeline.Normalize.std", MISSING, several(number(1e-6), 3), "input.pixel_std"),
    Setting("pipeline.Normalize.to_rgb", True, choice({True: "rgb", False: "bgr"}), "input.channel_order"),
    Setting("pipeline.Pad.size_divisor", MISSING, PADDING, "input.pad_divisor"),
)
_STEPS = ("LoadImageFromFile", "MultiScaleFlipAug", "Normalize", "Pad", "RandomFlip", "Resize")
_EMPTY_STEPS = (
    "Collect", "DefaultFormatBundle", "ImageToTensor", "LoadAnnotations", "LoadImageFromWebcam",
    "LoadPanopticAnnotations",
    "PackDetInputs",
)  # fmt: skip


def data_for_testing(values: Mapping[str, Any], version_3: bool) -> Mapping[str, Any]:
    """Return the data set that a config tests on, or one with only the pipeline.

    Args:
        values: The config's variables.
        version_3: Whether its model has a data_preprocessor.

    Returns:
        Its settings; without "pipeline" if the config has none.
    """
    if version_3:
        places = [("test_dataloader", "dataset"), ("val_dataloader", "dataset")]
    else:
        places = [("data", "test"), ("data", "val")]
    for place in places:
        dataset: Any = values
        for key in place:
            dataset = dataset.get(key) if isinstance(dataset, Mapping) else dataset
        # Wrappers that repeat or concatenate contain another data set.
        while isinstance(dataset, Mapping) and "pipeline" not in dataset and "dataset" in dataset:
            dataset = dataset["dataset"]
        if isinstance(dataset, Mapping) and "pipeline" in dataset:
            return dataset
        if isinstance(dataset, Unreadable):
            return {"pipeline": dataset}
    return {"pipeline": values["test_pipeline"]} if "test_pipeline" in values else {}


def pipeline_settings(dataset: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the steps' settings by "pipeline.STEP.NAME"; unknown steps are recorded as problems."""
    if "pipeline" not in dataset:
        return {}
    flat: dict[str, Any] = {}
    for step in _steps(dataset["pipeline"], settings.path):
        kind = step.get("type")
        if kind in _EMPTY_STEPS:
            continue
        if kind not in _STEPS:
            supported = ", ".join(_STEPS)
            settings.refuse("test_pipeline", kind, f"the steps {supported}")
            continue
        if f"pipeline.{kind}" in flat:
            settings.problem("test_pipeline", f"the test pipeline has {kind} twice; supported: once")
        # A separate entry, so that a step without settings is found too.
        flat[f"pipeline.{kind}"] = True
        flat |= {f"pipeline.{kind}.{key}": value for key, value in flatten(step, settings.path).items()}
    return flat


def read_pipeline(settings: Settings, version_3: bool) -> dict[str, Any]:
    """Read the settings of ModelConfig that the test pipeline sets, by dotted path.

    Args:
        settings: Settings that include the result of `pipeline_settings`.
        version_3: Whether the model has a data_preprocessor, which normalises; else a step does.
    """
    keys = [key for key in settings.values if key.startswith("pipeline.")]
    if not keys and version_3:
        return {}  # the default 800 and 1333
    values = settings.values
    for old in ("pipeline.MultiScaleFlipAug.img_scale", "pipeline.Resize.img_scale"):
        if old in values:
            values["pipeline.Resize.scale"] = values[old]
    scale = values.get("pipeline.Resize.scale")
    if isinstance(scale, (list, tuple)) and len(scale) == 1:
        values["pipeline.Resize.scale"] = scale[0]
    # Version 2 keeps the aspect ratio by default, version 3 does not.
    if not version_3:
        values.setdefault("pipeline.Resize.keep_ratio", True)
    config = settings.fields(_PIPELINE)
    settings.get(_KEEP_RATIO)
    if (scale := settings.get(_SCALE)) is not None:
        config |= {"input.test_min_size": min(scale), "input.test_max_size": max(scale)}
    if version_3:
        for step in ("Normalize", "Pad"):
            if f"pipeline.{step}" in values:
                text = f"the test pipeline has {step} and a data_preprocessor; supported: one of them"
                settings.problem("test_pipeline", text)
    else:
        config |= settings.fields(_NORMALIZE)
    for key in keys:
        del values[key]
    values.pop("pipeline.Resize.scale", None)
    values.pop("pipeline.Resize.keep_ratio", None)
    return config


def write_pipeline(config: ModelConfig, usual: ModelConfig) -> list[dict[str, Any]]:
    """Return the steps of a version 3 test pipeline that resizes like a configuration.

    Args:
        config: The configuration.
        usual: MMDetection's default configuration, used for a resize kernel that it does not have.
    """
    long = config.input.test_max_size
    # The library takes the larger number as the long side, in either order. If the short side's limit is
    # larger than the long side's, the long side alone decides.
    scale = (long, min(config.input.test_min_size, long))
    resize = {"type": "Resize", "scale": scale, "keep_ratio": True}
    backend = write([_BACKEND], config, usual)[_BACKEND.key]
    if backend != _BACKEND.default:
        resize["backend"] = backend
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    return [{"type": "LoadImageFromFile"}, resize, {"type": "PackDetInputs", "meta_keys": keys}]


def _steps(pipeline: Any, path: str) -> list[Mapping[str, Any]]:
    """List the steps, including those inside a test-time augmentation."""
    if not isinstance(pipeline, (list, tuple)):
        raise UserError(f"{path} has a test pipeline that is {pipeline!r}; write it out as a list of steps.")
    steps = []
    for step in pipeline:
        if not isinstance(step, Mapping) or not isinstance(step.get("type"), str):
            raise UserError(f"{path} has the step {step!r} in its test pipeline; give a dictionary.")
        inner = step.get("transforms", [])
        steps.append({key: value for key, value in step.items() if key != "transforms"})
        steps += _steps(inner, path)
    return steps
