"""Detectron2's yaml config files, also whole ones as it writes them beside its weights.

Source: ``fvcore.common.config`` and ``yacs`` for bases and for strings that hold Python literals.
"""

import ast
import os
from pathlib import Path
from typing import Any

import yaml

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.conventions import CITYSCAPES_8, COCO_80, DETECTRON2
from jaxmaskrcnn.convert.configs import detectron2_settings as table
from jaxmaskrcnn.convert.configs.config_table import Settings, flatten
from jaxmaskrcnn.errors import UserError

_BASE = "_BASE_"


def config_from_yaml(path: str | os.PathLike, training: bool = True) -> ModelConfig:
    """The configuration that a Detectron2 yaml describes.

    ``_BASE_`` is followed; what no file of the chain sets has Detectron2's default. The library's own
    bases ("Base-RCNN-FPN.yaml") are known, should they not be on this machine.

    Args:
        path: A ``.yaml`` file.
        training: Refuse also what changes training only.

    Returns:
        A ModelConfig. Its categories are named where the data sets are COCO's or Cityscapes'.

    Raises:
        UserError: The file or its base cannot be read, or it sets what cannot be reproduced here;
            lists all such settings.
    """
    path = os.fspath(path)
    settings = Settings(_load(path, ()), "Detectron2", path)
    config = _read(settings)
    keys = [key for key in settings.values if not key.startswith(table.UNUSED_SECTIONS)]
    settings.unknown(
        table.KNOWN, [key for key in keys if key not in table.KNOWN and settings.values[key] != {}]
    )
    # Every FPN config and every whole config has this one.
    bare = "MODEL.BACKBONE.NAME" not in settings.values
    settings.finish(
        training, " (nothing sets MODEL.BACKBONE.NAME, and the defaults are a C4 detector's)" if bare else ""
    )
    config = {field: value for field, value in config.items() if value is not None}
    return ModelConfig(**{**DETECTRON2, **config, "categories": _categories(settings, config)})


def _load(path: str, above: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a file over those of its bases, by dotted key; ``above`` are files that build on it."""
    if os.path.realpath(path) in above:
        raise UserError(f"{path} is its own {_BASE}; take {_BASE} out of one of the files.")
    values = _parse(path)
    bases = values.pop(_BASE, [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        merged |= _load_base(base, path, (*above, os.path.realpath(path)))
    return merged | {key: _decode(value) for key, value in flatten(values, path).items()}


def _load_base(base: Any, path: str, above: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(base, str):
        raise UserError(f"{path} has {_BASE} {str(base)[:80]!r}; give the path of a yaml file.")
    if base.startswith(("http://", "https://", "detectron2://")):
        raise UserError(f"{path} has the address {base} as its {_BASE}; save that file and give its path.")
    found = Path(path).parent / Path(base).expanduser()
    if found.is_file():
        return _load(os.fspath(found), above)
    if found.name in table.BASES:
        return flatten(table.BASES[found.name], found.name)
    raise UserError(
        f"{path} builds on {found}, which does not exist; put it there, or give the config.yaml that "
        "Detectron2 wrote into the output folder, which needs no base."
    )


def _parse(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a Detectron2 yaml.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text file; give a Detectron2 yaml.") from None
    except RecursionError:
        raise UserError(f"{path} nests its settings too deeply; give a Detectron2 yaml.") from None
    except yaml.constructor.ConstructorError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(
            f"{path} has something other than plain values{line} ({error.problem}), and files are not "
            "allowed to run code here; write the value out."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path} is no valid yaml{line}; give a Detectron2 yaml.") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path} holds no settings by name; give a Detectron2 yaml.")
    return values


def _decode(value: Any) -> Any:
    """A text that holds a Python literal, such as "(60000, 80000)", as that literal."""
    if isinstance(value, str):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    return value


def _read(settings: Settings) -> dict[str, Any]:
    config = settings.fields(table.SETTINGS)
    heads = 2 if config["mask_head"] else 1
    if config["mask_head"]:
        config |= settings.fields(table.MASK_SETTINGS)
    config["roi_sampling_ratio"] = settings.common(table.SAMPLING[:heads])
    config["roi_aligned"] = settings.common(table.ALIGNMENT[:heads])
    # A head without convolutions has no norm layers, whatever its setting says.
    counts = (config["box_convs"], config.get("mask_convs"))
    norms = [setting for setting, count in zip(table.HEAD_NORM, counts, strict=True) if count]
    config["head_norm"] = settings.common(norms) if norms else "none"
    config["smooth_l1_beta"] = settings.common(table.BETA)
    if (thresholds := settings.get(table.RPN_IOU)) is not None:
        config["rpn_background_iou"], config["rpn_foreground_iou"] = thresholds
    if (thresholds := settings.get(table.ROI_IOU)) is not None:
        (config["roi_foreground_iou"],) = thresholds
    _read_backbone(settings, config)
    _read_anchors(settings, config)
    _read_rpn_convs(settings, config)
    _read_norm_decay(settings, config)
    return config


def _read_backbone(settings: Settings, config: dict[str, Any]) -> None:
    """The first stage's channels, which are a choice in Detectron2 and a consequence here."""
    channels = 64 if (config["backbone_depth"] or 50) < 50 else 256
    given = settings.values.get(table.RES2_CHANNELS, 256)
    if given != channels:
        depth = config["backbone_depth"]
        settings.refuse(table.RES2_CHANNELS, given, f"{channels} with MODEL.RESNETS.DEPTH {depth}")


def _read_anchors(settings: Settings, config: dict[str, Any]) -> None:
    """One size a level, and the same ratios for all of them."""
    sizes = settings.values.get(table.ANCHOR_SIZES, [[32, 64, 128, 256, 512]])
    levels = _per_level(sizes)
    if levels is None or any(len(level) != 1 for level in levels):
        settings.refuse(
            table.ANCHOR_SIZES, sizes, "five lists of one size each, or one such list for all levels"
        )
    else:
        config["anchor_sizes"] = tuple(float(level[0]) for level in levels)
    ratios = settings.values.get(table.ANCHOR_RATIOS, [[0.5, 1.0, 2.0]])
    levels = _per_level(ratios)
    if levels is None or any(level != levels[0] for level in levels):
        settings.refuse(table.ANCHOR_RATIOS, ratios, "one list of ratios, or five that are equal")
    else:
        config["anchor_ratios"] = tuple(float(ratio) for ratio in levels[0])


def _per_level(lists: Any) -> list[list[float]] | None:
    """Five lists of positive numbers; one list stands for all levels. None for anything else."""
    if not isinstance(lists, (list, tuple)) or len(lists) not in (1, 5):
        return None
    for level in lists:
        if not isinstance(level, (list, tuple)) or not level:
            return None
        if not all(type(value) in (int, float) and 0 < value < 1e9 for value in level):
            return None
    return list(lists) * (5 // len(lists))


def _read_rpn_convs(settings: Settings, config: dict[str, Any]) -> None:
    """The number of convolutions; -1 is as many channels as the pyramid has."""
    given = settings.values.get(table.RPN_CONVS, [-1])
    same = (-1, config["fpn_channels"])
    if not isinstance(given, (list, tuple)) or not given or any(value not in same for value in given):
        settings.refuse(table.RPN_CONVS, given, "a list of -1, one for each convolution")
    else:
        config["rpn_convs"] = len(given)


def _read_norm_decay(settings: Settings, config: dict[str, Any]) -> None:
    decay, of_norm = settings.get(table.DECAY), settings.get(table.NORM_DECAY)
    config["weight_decay_exempts_norm"] = of_norm == 0
    if of_norm not in (0, decay, None):
        settings.refuse(table.NORM_DECAY.key, of_norm, "0, or the same as SOLVER.WEIGHT_DECAY", training=True)


def _categories(settings: Settings, config: dict[str, Any]) -> tuple:
    """The categories of the data sets that are named, where they are known and their number fits."""
    names = [settings.values.get(f"DATASETS.{use}") for use in ("TEST", "TRAIN")]
    names = [name for name in names if isinstance(name, (list, tuple)) and name]
    first = str(names[0][0]) if names else ""
    for prefix, categories in (("coco_", COCO_80), ("cityscapes_fine_instance_seg", CITYSCAPES_8)):
        if first.startswith(prefix) and len(categories) == config["num_classes"]:
            return categories
    return ()
