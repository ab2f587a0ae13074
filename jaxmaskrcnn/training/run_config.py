"""From a run's settings to a model's, and the check that a resumed run still has the same ones."""

import dataclasses
import difflib
import json
import numbers
import os
import re
from pathlib import Path

from jaxmaskrcnn.config import Config, ConfigError, ModelConfig, ModelSection
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.files import write_json
from jaxmaskrcnn.presets import model_config
from jaxmaskrcnn.structures import Category

# What decides about the shapes in a checkpoint, or about which data its position counts in.
_FIXED = (
    "optimizer.freeze", "optimizer.momentum", "optimizer.weight_decay", "optimizer.clip_norm",
    "optimizer.groups", "optimizer.ema_decay", "data.batch_size", "train.seed",
)  # fmt: skip


def model_section(preset: str, **overrides) -> ModelSection:
    """The mutable model section of a run's config, filled from a preset.

    Args:
        preset: One of ``jaxmaskrcnn.list_models()``.
        **overrides: Fields of ``ModelSection``. ``num_classes`` is 0 unless given: the number of
            categories in the training annotations.

    Returns:
        A ``ModelSection``.

    Raises:
        UserError: The preset or a field is unknown.

    Example:
        >>> section = model_section("detectron2/mask_rcnn_R_50_FPN_3x", freeze_at=0)
        >>> section.backbone_stride_in_1x1, section.num_classes
        (True, 0)
    """
    names = {field.name for field in dataclasses.fields(ModelSection)}
    unknown = sorted(set(overrides) - names)
    if unknown:
        raise ConfigError(f"ModelSection has no field {unknown[0]!r}.")
    base = dataclasses.asdict(model_config(preset))
    values = {name: value for name, value in base.items() if name in names}
    return ModelSection(**{**values, "num_classes": 0, **overrides})


def to_model_config(section: ModelSection, categories: tuple[Category, ...]) -> ModelConfig:
    """The frozen model config of a run.

    Args:
        section: ``config.model``.
        categories: Of the training annotations, in the order of their labels.

    Returns:
        A ``ModelConfig`` that names the categories.

    Raises:
        ConfigError: ``num_classes`` is given and is not the number of categories.
    """
    if section.num_classes not in (0, len(categories)):
        raise ConfigError(
            f"model.num_classes is {section.num_classes}, but the number of categories in the training "
            f"annotations is {len(categories)}; set it to 0 to take that."
        )
    values = {
        # The command line turns tuples into lists.
        field.name: tuple(value) if isinstance(value := getattr(section, field.name), list) else value
        for field in dataclasses.fields(ModelConfig)
        if field.name != "categories"
    }
    values["num_classes"] = len(categories)
    return ModelConfig(**values, categories=tuple(categories))


def check_resumable(workdir: str | os.PathLike, model: ModelConfig, config: Config) -> None:
    """Refuse to continue a run with settings that its checkpoints do not fit.

    Args:
        workdir: Of the run; its ``run.json`` holds the settings it was started with.
        model: The model's settings now.
        config: The run's settings now.

    Raises:
        UserError: Names the fields that differ, with both values.
    """
    path = Path(workdir) / "run.json"
    if not path.exists():
        return
    now = _settings(model, config)
    # A setting that did not exist when the run was started had what is now its default.
    defaults = {k: v for k, v in _settings(model, Config()).items() if not k.startswith("model.")}
    before = defaults | json.loads(path.read_text(encoding="utf-8"))
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


def write_settings(workdir: str | os.PathLike, model: ModelConfig, config: Config) -> None:
    """Write every setting of the run to ``<workdir>/run.json``, one line each."""
    write_json(Path(workdir) / "run.json", _settings(model, config), indent=1)


def _settings(model: ModelConfig, config: Config) -> dict:
    values = {"model": dataclasses.asdict(model)}
    for section in ("data", "optimizer", "train"):
        values[section] = dataclasses.asdict(getattr(config, section))
    flat = {f"{section}.{name}": v for section, fields in values.items() for name, v in fields.items()}
    return json.loads(json.dumps(flat))  # tuples compare as the lists they are read back as


def check_overrides(arguments: list[str]) -> None:
    """Refuse ``--config.field.sub=value`` for a field that does not exist.

    Args:
        arguments: Of the command line.

    Raises:
        UserError: Names the field and those that look like it.
    """
    known = _field_names(Config)
    for argument in arguments:
        path = re.match(r"--?config\.([^=]+)", argument)
        if path is None or path[1] in known:
            continue
        last = path[1].rsplit(".", 1)[-1]
        close = [name for name in known if name.rsplit(".", 1)[-1] == last]
        close = close or difflib.get_close_matches(path[1], known, n=2, cutoff=0.7)
        hint = f"did you mean {' or '.join(f'config.{name}' for name in close)}?" if close else (
            f"the sections are {', '.join(field.name for field in dataclasses.fields(Config))}."
        )  # fmt: skip
        raise UserError(f"There is no setting config.{path[1]}; {hint}")


def check_numbers(section, name: str = "config") -> None:
    """Refuses what is no number in a field of several numbers, where the library of the flags takes anything.

    Args:
        section: A dataclass and, within it, others.
        name: What it is called.

    Raises:
        UserError: Names the field and what it holds.

    Example:
        >>> check_numbers(Config())
    """
    kinds = {
        tuple[int, ...]: (numbers.Integral, "whole numbers"),
        tuple[float, ...]: (numbers.Real, "numbers"),
    }
    for field in dataclasses.fields(section):
        value, path = getattr(section, field.name), f"{name}.{field.name}"
        if dataclasses.is_dataclass(value):
            check_numbers(value, path)
        elif field.type in kinds:
            kind, words = kinds[field.type]
            if any(isinstance(item, bool) or not isinstance(item, kind) for item in value):
                given = ",".join(map(str, value))
                raise UserError(f"{path} is {given}; give {words} with commas between them.")


def quote_patterns(arguments: list[str]) -> list[str]:
    """Let patterns be written with plain commas: ``--config.optimizer.freeze=backbone.*,*.bias``.

    The library of the flags would want quotes around each, for they are no Python expressions.

    Args:
        arguments: Of the command line.

    Returns:
        The arguments, with the values of settings that are tuples of texts as Python writes them.

    Example:
        >>> quote_patterns(["--config.optimizer.groups=backbone.*:0.1,*.bias:2:0"])
        ["--config.optimizer.groups=('backbone.*:0.1', '*.bias:2:0')"]
    """
    return [_quoted(argument) for argument in arguments]


def _quoted(argument: str) -> str:
    found = re.match(r"(--?config\.(\w+)\.(\w+)=)([^'\"(\[].*)", argument)
    if found is None or found[2] == "model" or not hasattr(Config(), found[2]):
        return argument
    types = {field.name: field.type for field in dataclasses.fields(getattr(Config(), found[2]))}
    if types.get(found[3]) != tuple[str, ...]:
        return argument
    return found[1] + repr(tuple(part.strip() for part in found[4].split(",") if part.strip()))


def _field_names(section, prefix: str = "") -> list[str]:
    names = []
    for field in dataclasses.fields(section):
        inner = dataclasses.is_dataclass(field.type)
        names += _field_names(field.type, f"{prefix}{field.name}.") if inner else [prefix + field.name]
    return names
