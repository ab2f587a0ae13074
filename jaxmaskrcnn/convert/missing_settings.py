"""Settings that a checkpoint does not hold, or only in part: anchors, sizes, thresholds, the classes' ids."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.library import Library
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.ops.anchors import base_anchors
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8, COCO_80, LVIS_V05_1230, LVIS_V1_1203
from jaxmaskrcnn.zoo.lookup import list_models, model_info

_CELL_ANCHORS = re.compile(r"(proposal_generator|rpn)\.anchor_generator\.cell_anchors\.(\d+)")


def is_published(name: str, path: str) -> bool:
    """Whether a file has the name of the weights that were published for a preset, whose settings are known.

    Args:
        name: The preset's name; others have no published weights.
        path: The file.
    """
    return name in list_models() and model_info(name).file == Path(path).name


def missing_settings_warning(config: ModelConfig, name: str, path: str) -> str:
    """Say which settings were taken for a file that has none, in a sentence.

    Args:
        config: The configuration.
        name: Its origin.
        path: The file.
    """
    conventions = name.split(" (")[0]  # without a structure in brackets
    return (
        "torchvision's files hold no anchors, image sizes or thresholds, so those of "
        f"{conventions} were taken: {describe_anchors(config)}, images of {config.input.test_min_size} to "
        f"{config.input.test_max_size} px, scores above {config.detections.score_threshold:g}; if the model "
        f"was built with others, write torchvision's arguments in {Path(path).with_suffix('.json').name} "
        "beside the file, or give a ModelConfig (docs/conversion.md)."
    )


def describe_anchors(config: ModelConfig) -> str:
    """Describe anchors for a message, such as "anchors of 32, 64 px with the ratios 0.5, 1, 2".

    Args:
        config: The model's configuration.
    """
    levels = config.rpn.anchors.per_level
    sizes = ", ".join("+".join(f"{x:g}" for x in own) for own, _ in levels)
    ratios = dict.fromkeys(ratios for _, ratios in levels)
    return f"anchors of {sizes} px with the ratios " + " | ".join(
        ", ".join(f"{x:g}" for x in own) for own in ratios
    )


def check_anchors(
    library: Library, arrays: Mapping[str, np.ndarray], config: ModelConfig, name: str, path: str
) -> None:
    """Check that a file has as many anchors in a cell as a configuration.

    Args:
        library: The library whose names the arrays have.
        arrays: Arrays by these names.
        config: The configuration.
        name: Its origin, for the message.
        path: The file, for the message.

    Raises:
        UserError: The numbers differ; the message has both, and what would fit.
    """
    found = anchors_per_cell(library, arrays, config)
    expected = config.rpn.anchors.per_cell
    if found in (None, expected):
        return
    sizes, ratios = config.rpn.anchors.per_level[0]
    ways = [f"{found // n} x {n}" for n in range(1, found + 1) if found % n == 0]
    beside = (
        f", in {Path(path).with_suffix('.json').name} beside the file or" if library.stored_settings else ""
    )
    raise UserError(
        f"{path} has {found} anchors in each cell, and {name} has {expected} ({len(sizes)} x {len(ratios)}, "
        f"{describe_anchors(config)}); give those that it was trained with{beside} in a ModelConfig: "
        f"rpn.anchors.sizes and rpn.anchors.ratios of {' or '.join(ways)} (sizes x ratios) on each level."
    )


def anchors_per_cell(library: Library, arrays: Mapping[str, np.ndarray], config: ModelConfig) -> int | None:
    """Return a file's number of anchors in a cell, which is the number of its objectness logits.

    Args:
        library: The library whose names the arrays have.
        arrays: Arrays by these names.
        config: A configuration of the arrays' structure.

    Returns:
        The number; None if the file has no such array.
    """
    table = library.table(config)
    for name, array in arrays.items():
        translated = table.translate(name) if name.endswith(".bias") else None
        if translated is not None and translated[0] == "rpn.cls_logits.bias" and array.ndim == 1:
            return len(array)
    return None


def other_anchors(arrays: Mapping[str, np.ndarray], config: ModelConfig) -> list[str]:
    """Compare the anchors that older files carry with a configuration's, in at most one sentence.

    Args:
        arrays: Arrays by a library's names.
        config: The configuration.
    """
    carried = {int(match[2]): x for name, x in arrays.items() if (match := _CELL_ANCHORS.fullmatch(name))}
    if not carried:
        return []
    anchors, own = config.rpn.anchors, []
    for level, (sizes, ratios) in zip(config.levels, anchors.per_level, strict=True):
        unit = level.stride if anchors.base == "stride" else None
        own.append(base_anchors(sizes, ratios, anchors.rounding, anchors.order, unit))
    found = [np.asarray(carried[level], np.float32) for level in sorted(carried)]
    if len(own) == len(found) and all(
        a.shape == b.shape and np.allclose(a, b, atol=0.01 * np.abs(a).max())
        for a, b in zip(own, found, strict=True)
    ):
        return []
    sizes = ", ".join(_unique(_lengths(x)) for x in found)
    ratios = _unique(np.concatenate([_sides(x)[:, 1] / _sides(x)[:, 0] for x in found]), 2).replace("+", ", ")
    return [
        f"The file was made with anchors of {sizes} px and the ratios {ratios} (height / width), and the "
        f"model has {describe_anchors(config)}; give the file's as rpn.anchors.sizes and rpn.anchors.ratios."
    ]


def _sides(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, 2:] - boxes[:, :2]


def _lengths(boxes: np.ndarray) -> np.ndarray:
    """The sizes of a cell's anchors: the sides of the squares, if there are any, as no rule rounds them."""
    sides = _sides(boxes)
    squares = np.isclose(sides[:, 0], sides[:, 1], rtol=1e-3)
    return np.sqrt(np.prod(sides[squares] if squares.any() else sides, axis=1))


def _unique(values: np.ndarray, digits: int = 0) -> str:
    """List values ascending, as one those that are equal up to the rounding of a file or of a rule."""
    groups: list[list[float]] = []
    for value in np.sort(values):
        if groups and value < groups[-1][0] * 1.12:
            groups[-1].append(float(value))
        else:
            groups.append([float(value)])
    return "+".join(f"{round(float(np.mean(group)), digits):g}" for group in groups)


def name_classes_of_file(
    order: str, config: ModelConfig, names: tuple[str, ...], given: bool
) -> tuple[ModelConfig, list[str]]:
    """Give a configuration the class names of a file, and the order that the library's labels have.

    Args:
        order: The order of the library's labels, "id" or "list".
        config: The configuration, with the file's number of classes.
        names: The file's names, or ().
        given: Whether the user gave the categories.

    Returns:
        The configuration, and sentences for the report.
    """
    if config.semantic is not None and len(names) == config.num_classes + len(config.semantic.stuff):
        # MMDetection names the classes of stuff behind those of things.
        names, stuff = names[: config.num_classes], names[config.num_classes :]
        if not given:
            config = config.replace({"semantic.stuff": stuff})
    if given and config.categories:
        own = tuple(category.name for category in config.categories)
        if not names or names == own or len(names) != len(own):
            return config, []
        there, here = (", ".join(texts[:5]) + (", ..." if len(texts) > 5 else "") for texts in (names, own))
        return config, [f"The file names its classes {there}, and the given model {here}, which are taken."]
    if names and len(names) != config.num_classes:
        unused = f"The file names {len(names)} classes but has {config.num_classes}, so they are not used."
        return name_classes_of_file(order, config, (), given)[0], [unused]
    for known in (COCO_80, CITYSCAPES_8, LVIS_V1_1203, LVIS_V05_1230):
        # MMDetection corrects a letter in LVIS' own name of a class.
        spelt = tuple(name.replace("(stereo_equipment)", "(stero_equipment)") for name in names)
        if names and spelt == tuple(category.name for category in known):
            return config.replace(categories=known, label_order="id"), []
    if names:
        first = config.foreground_offset
        own = tuple(Category(first + i, name) for i, name in enumerate(names))
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        note = [f"The class names are the file's: {some}."]
        return config.replace(categories=own, label_order=order), note
    if not config.categories:
        return config.replace(label_order=order), []
    return config, []
