"""Derives a model's settings from a run's, and checks that a resumed run has the same settings."""

import dataclasses
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxmaskrcnn.config import Config, ConfigError, ModelConfig, ModelSection, PixelConfig
from jaxmaskrcnn.config.parts import default_part
from jaxmaskrcnn.config.paths import settings
from jaxmaskrcnn.config.version1 import PATHS, from_flat
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category, Skeleton
from jaxmaskrcnn.utils.checksums import check_content, with_checksum
from jaxmaskrcnn.utils.files import write_json
from jaxmaskrcnn.zoo.lookup import list_models, model_config

log = logging.getLogger(__name__)

# Settings that determine the shapes in a checkpoint, or the data that its position refers to.
_FIXED = (
    "optimizer.freeze", "optimizer.momentum", "optimizer.weight_decay", "optimizer.clip_norm",
    "optimizer.groups", "optimizer.method", "optimizer.beta2", "optimizer.layer_decay",
    "optimizer.ema_decay", "optimizer.clip_value", "optimizer.noise", "optimizer.noise_decay",
    "optimizer.trust_coefficient", "data.batch_size", "train.seed",
)  # fmt: skip
_WEIGHTS = "weights"  # what the run was started from; no setting that has to stay the same


def model_section(preset: str, weights: str = "", num_classes: int = 0, **overrides) -> ModelSection:
    """Make the model section of a run's config from a preset.

    Args:
        preset: One of ``jaxmaskrcnn.list_models()``, or a model directory or training workdir, whose settings
            are taken.
        weights: As in `ModelSection`; by default the directory, if that is what ``preset`` names.
        num_classes: Number of classes; 0 takes the number of categories in the training annotations.
        **overrides: Settings by dotted path, ``**{"backbone.freeze_at": 0}``.

    Returns:
        A ``ModelSection``.

    Raises:
        UserError: The preset or a setting is unknown.

    Example:
        >>> section = model_section("detectron2/mask_rcnn_R_50_FPN_3x", **{"backbone.freeze_at": 0})
        >>> section.architecture.backbone.stride_in_1x1, section.num_classes
        (True, 0)
    """
    if preset and preset not in list_models() and Path(preset).is_dir():
        # Imported here, so that recipes of presets do not wait for what reads models.
        from jaxmaskrcnn.convert.named_model import directory_config

        # What the overrides change is logged when the weights are copied.
        architecture = directory_config(preset).replace(overrides).replace(categories=(), label_order="id")
        if architecture.box.federated is not None and "box.federated.image_counts" not in overrides:
            architecture = architecture.replace({"box.federated.image_counts": ()})
        return ModelSection(architecture=architecture, weights=weights or preset, num_classes=num_classes)
    architecture = model_config(preset, **overrides).replace(categories=())
    return ModelSection(architecture=architecture, weights=weights, num_classes=num_classes)


def to_model_config(
    section: ModelSection,
    categories: tuple[Category, ...],
    skeleton: Skeleton | None = None,
    image_counts: Sequence[int] = (),
    stuff: tuple[Category, ...] | None = None,
) -> ModelConfig:
    """The frozen model config of a run.

    Args:
        section: ``config.model``.
        categories: Categories of the training annotations, in the order of their labels.
        skeleton: The keypoints of the training annotations, or None.
        image_counts: Training images of each class, for a federated loss without numbers of its own.
        stuff: Their categories of stuff, or None.

    Returns:
        A ``ModelConfig`` that names the categories, and the keypoints and the stuff if it has heads for them.

    Raises:
        ConfigError: ``num_classes`` is given and is not the number of categories.
    """
    if section.num_classes not in (0, len(categories)):
        raise ConfigError(
            f"model.num_classes is {section.num_classes}, but the number of categories in the training "
            f"annotations is {len(categories)}; set it to 0 to take that."
        )
    # The labels of a run are the categories of its annotations, whatever the order in its first weights was.
    of_stuff: dict[str, Any] = {}
    if section.architecture.semantic is not None and stuff is not None:
        names, ids = tuple(c.name for c in stuff), tuple(c.id for c in stuff)
        of_stuff = {"semantic": dataclasses.replace(section.architecture.semantic, stuff=names, ids=ids)}
    config = section.architecture.replace(
        {"num_classes": len(categories), "categories": tuple(categories), "label_order": "id", **of_stuff}
    )
    if config.box.federated is not None and not config.box.federated.image_counts:
        config = config.replace({"box.federated.image_counts": tuple(image_counts)})
    part = config.keypoints
    if part is None or skeleton is None or part.points == skeleton.points:
        return config
    # So are its keypoints. Pairs and sigmas that were given stay, if they are for as many keypoints.
    same = len(part.points) == len(skeleton.points)
    own = {"flips": part.flips, "sigmas": part.sigmas} if same else {"flips": (), "sigmas": ()}
    return config.replace({
        "keypoints": dataclasses.replace(part, points=skeleton.points, skeleton=skeleton.lines, **own)
    })  # fmt: skip


def pixel_config(config: Config) -> PixelConfig:
    """Return how a run reads the pixels of its files: the settings of ``data`` override the model's.

    They are stored in the run's model, so that evaluation and prediction read files as training did.

    Raises:
        ConfigError: The settings do not fit each other.

    Example:
        >>> config = Config()
        >>> config.data.intensity = "percentile"
        >>> pixel_config(config).intensity
        'percentile'
    """
    data = config.data
    return config.model.architecture.input.pixels.changed(data.intensity, data.intensity_range, data.page)


def all_settings(model: ModelConfig, config: Config) -> dict[str, Any]:
    """Return every setting of a run by its path, as it is in ``run.json``."""
    return _settings(model, config)


def check_no_model(workdir: str | os.PathLike) -> None:
    """Check that a workdir is no model directory, which would go on being read as the model that it is.

    Args:
        workdir: The run's folder.

    Raises:
        UserError: It is one.
    """
    if (Path(workdir) / "model.json").is_file():
        raise UserError(
            f"the workdir {workdir} is a model directory (it has a model.json); give another --workdir for "
            f"the run, and --config.model.weights={workdir} to start from this model."
        )


def check_resumable(workdir: str | os.PathLike, model: ModelConfig, config: Config) -> None:
    """Check that a run is continued with settings that fit its checkpoints.

    Args:
        workdir: The run's folder; its ``run.json`` holds the settings it was started with.
        model: The model's present settings.
        config: The run's present settings.

    Raises:
        UserError: Some fields differ; the message names them with both values.
    """
    path = Path(workdir) / "run.json"
    if not path.exists():
        return
    stored = _read_settings(path)
    started = stored.get(_WEIGHTS, config.model.weights)  # version 0.1.0 did not store it
    if config.model.weights not in ("", started):
        log.warning(
            "model.weights=%s is not read: the run in %s was started from %s and continues from its "
            "checkpoint; give another --workdir to start from other weights.",
            config.model.weights, workdir, started or "random weights",
        )  # fmt: skip
    now = _settings(model, config)
    before = _upgraded(stored, now)
    # A setting that did not exist when the run was started had the effect of its present default.
    plain = _plain_settings(Config())
    new = {
        name: plain[name] if name in plain else _default(model, name) for name in now if name not in before
    }
    before = {**json.loads(json.dumps(new)), **before}
    different = [
        f"{name} (was {before.get(name)!r}, is {now.get(name)!r})"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and (name.startswith("model.") or name in _FIXED)
    ]
    if different:
        raise UserError(
            f"{workdir} holds a checkpoint of a run with other settings: {', '.join(different)}; use "
            "the same settings, or another --workdir for a new run."
        )


def stored_setting(workdir: str | os.PathLike, path: str) -> Any:
    """Return a setting of the run that was started in a workdir; None where there is none.

    Args:
        workdir: The run's folder.
        path: The setting, such as "data.batch_size".

    Raises:
        UserError: ``run.json`` is damaged.
    """
    file = Path(workdir) / "run.json"
    return _read_settings(file).get(path) if file.exists() else None


def write_settings(
    workdir: str | os.PathLike, model: ModelConfig, config: Config, *, continued: bool = False
) -> None:
    """Write every setting of the run to ``<workdir>/run.json``, one line each, and the checksum of all.

    Args:
        workdir: The run's folder.
        model: The model's settings.
        config: The run's settings.
        continued: Whether the run was started before, so that its first weights are those of then.
    """
    path = Path(workdir) / "run.json"
    weights = config.model.weights
    if continued and path.exists():
        weights = _read_settings(path).get(_WEIGHTS, weights)
    settings = {**_settings(model, config), _WEIGHTS: weights}
    write_json(path, with_checksum(settings), indent=1, durable=True)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        problem = None if isinstance(content, dict) else "it holds no settings"
        content = check_content(content, str(path)) if problem is None else {}
    except (ValueError, RecursionError) as error:  # not JSON, bytes that are not UTF-8, or another checksum
        problem = str(error) if isinstance(error, UserError) else f"it is not JSON ({error})"
    if problem:
        raise UserError(
            f"{path} is damaged: {problem}; delete this file to continue without a comparison of the "
            "settings with those that the run was started with."
        )
    return content


def _settings(model: ModelConfig, config: Config) -> dict:
    values = {f"model.{path}": value for path, value, _ in settings(model)}
    values |= _plain_settings(config)
    return json.loads(json.dumps(values))  # turns tuples into lists, as in a file that is read back


def _plain_settings(config: Config) -> dict:
    """The settings beside the model's."""
    sections = (("data", config.data), ("optimizer", config.optimizer), ("train", config.train))
    return {
        f"{name}.{field}": value
        for name, section in sections
        for field, value in dataclasses.asdict(section).items()
    }


def _default(model: ModelConfig, path: str) -> Any:
    """The default of a setting of the model, where its parts are of the kinds that they are now."""
    now, default = model, ModelConfig()
    for name in path.removeprefix("model.").split("."):
        if name.isdigit():
            now, default = now[int(name)], (default or (None,))[0]
        elif name == "kind":
            return getattr(now, name)
        else:
            now, default = getattr(now, name), getattr(default, name)
        if dataclasses.is_dataclass(now) and type(default) is not type(now):
            default = default_part(type(now))
    return "a part" if dataclasses.is_dataclass(default) else default


def _upgraded(before: dict, now: dict) -> dict:
    """Converts the settings of a run of version 1 to present paths; others are returned unchanged."""
    flat = {name.removeprefix("model."): value for name, value in before.items() if name.startswith("model.")}
    if not flat.keys() & PATHS.keys():
        return before
    categories = tuple(Category(*category) for category in flat.pop("categories", ()))
    model = ModelConfig().replace({**from_flat(flat), "categories": categories})
    known = {path for paths in PATHS.values() for path in paths} | {"num_classes", "categories", "background"}
    upgraded = {f"model.{path}": value for path, value, _ in settings(model) if path in known}
    rest = {name: value for name, value in before.items() if not name.startswith("model.")}
    # Settings that did not exist then, such as the order of several anchor sizes, cannot have differed.
    new = {name: now[name] for name in now if name.startswith("model.") and name not in upgraded}
    return new | json.loads(json.dumps(upgraded)) | rest
