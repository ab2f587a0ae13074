"""Label Studio: a json with a list of tasks, each an image with the annotations that people made of it.

Formats: https://labelstud.io/guide/export (JSON and JSON_MIN),
https://github.com/HumanSignal/label-studio-converter (``converter.py``, ``utils.py``). Coordinates are in
percent of the image's sides, from its upper left corner.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxmaskrcnn.data.importers.brush_rle import decode_brush
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import folder_of, json_files, read_json
from jaxmaskrcnn.data.importers.label_studio_bitmask import KEYS, decode_bitmask
from jaxmaskrcnn.data.importers.label_studio_paths import find_image, image_name
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.points import check_near, polygon, stated_size
from jaxmaskrcnn.data.importers.shapes import ellipse, encode, number
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name"})
_NO_AREA = ("keypointlabels", "keypoint", "vectorlabels", "vector")
_REGIONS = ("polygon", "rectangle", "ellipse", "brush", "bitmask")  # with "labels" after it or without


def images(source: Path) -> Path:
    """The image folder if none is given: that of the json."""
    return folder_of(source)


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds the tasks of an export.

    Of each task the first annotation counts that was not cancelled. Predictions are no annotations.

    Args:
        source: The json, or a folder of them.
        builder: Collects the images and objects.
        options: ``class_name`` is the class of all objects; without it, each has that of its labels.
    """
    for path in json_files(source, builder):
        with builder.noting("bad file"):
            seen: set[Any] = set()
            for place, task in _tasks(read_json(path), path, alone=source.is_file()):
                with builder.noting("bad task"):
                    _read_task(task, place, seen, path, builder, options.class_name)


def _tasks(content: Any, path: Path, alone: bool) -> Iterator[tuple[str, dict]]:
    if isinstance(content, dict):
        if {"images", "annotations"} <= content.keys() and not alone:
            return  # such as the output of an earlier import
        if isinstance(content.get("task"), dict) and "result" in content:
            content = {**content["task"], "annotations": [content]}  # one annotation, as cloud storage has it
        content = [content]
    if not isinstance(content, list):
        raise UserError(f"{path} holds a {type(content).__name__}; give Label Studio's list of tasks.")
    for i, task in enumerate(content):
        place = f"{path}: task {task['id'] if isinstance(task, dict) and 'id' in task else i}"
        if not isinstance(task, dict):
            raise UserError(f"{place} is not an object; give Label Studio's json, a list of tasks.")
        yield place, task


def _read_task(
    task: dict, place: str, seen: set, path: Path, builder: Builder, class_name: str | None
) -> None:
    if isinstance(task.get("data"), dict):
        data, results = task["data"], _results(task, place, builder)
        if results is None:
            return
    else:
        data, results = task, _plain_results(task)
        identity = task.get("id")
        if isinstance(identity, (int, str)):
            if identity in seen:
                builder.tally("further annotations of tasks are left out, the first one is read", place)
                return
            seen.add(identity)
    name = image_name(data, place)
    regions = list(_regions(results, place, builder))
    sizes = {size for _, _, size in regions if size is not None}
    if len(sizes) > 1:
        raise UserError(f"{place} has regions of images of different sizes; keep those of one.")
    image = builder.image(find_image(name, place, path, builder), place, sizes.pop() if sizes else None)
    for where, value, _ in regions:
        with builder.noting("bad region"):
            size = (image[0].height, image[0].width)
            if any(key in value for key in KEYS):
                segmentation = encode(decode_bitmask(value, size, where, path, builder))
            else:
                segmentation = _segmentation(value, where, size)
            builder.add(image, class_name or _class(value, where), segmentation, where)


def _results(task: dict, place: str, builder: Builder) -> list | None:
    """The regions of the annotation that counts; None where the task has none."""
    written = task.get("annotations", task.get("completions"))
    if not isinstance(written, list) or not all(isinstance(entry, dict) for entry in written):
        raise UserError(f"{place} has no list 'annotations'; export the project as JSON.")
    kept = [entry for entry in written if not (entry.get("was_cancelled") or entry.get("skipped"))]
    if not kept:
        builder.tally("tasks without an annotation (predictions are none) are left out", place)
        return None
    if len(kept) > 1:
        builder.tally("tasks have several annotations, of which the first one is read", place)
    results = kept[0].get("result")
    if not isinstance(results, list):
        raise UserError(f"{place} has an annotation without the list 'result'; export the project as JSON.")
    return results


def _plain_results(task: dict) -> list:
    """The regions of a task of JSON_MIN, where each list of them stands under its control's name."""
    found = []
    for value in task.values():
        for entry in value if isinstance(value, list) else []:
            if isinstance(entry, dict) and any(str(key).endswith("labels") for key in entry):
                kind = next(str(key) for key in entry if str(key).endswith("labels"))
                found.append({**entry, "type": kind, "value": entry})
    return found


def _regions(
    results: list, place: str, builder: Builder
) -> Iterator[tuple[str, dict, tuple[int, int] | None]]:
    """The regions with an area: place, value with its type, and the image's size."""
    merged: dict[Any, dict] = {}
    for i, entry in enumerate(results):
        if not isinstance(entry, dict):
            raise UserError(f"{place} has a result that is not an object; export the project as JSON.")
        value = entry.get("value")
        kind = str(entry.get("type", "")).lower()
        base = kind.removesuffix("labels")
        if not isinstance(value, dict) or (base and base not in _REGIONS and kind not in _NO_AREA):
            builder.tally("results that are no regions (choices, texts, relations) are left out", place)
            continue
        where = f"{place}: region {entry.get('id', i)}"
        if kind in _NO_AREA:
            builder.leave_out(f"type {kind!r}", where)
            continue
        # With the controls Labels and Polygon, one entry has the region and another one its class.
        key = entry["id"] if isinstance(entry.get("id"), (str, int)) else ("alone", i)
        if base and merged.get(key, {}).get("kind"):
            key = ("again", i)  # two regions of one id
        known = merged.setdefault(key, {"where": where, "entry": entry, "value": {}, "kind": base})
        known["kind"] = known["kind"] or base
        known["value"] |= value
    for known in merged.values():
        entry, where = known["entry"], known["where"]
        turned = entry.get("image_rotation") or 0
        if turned != 0:
            raise UserError(
                f"{where} was drawn on an image that was turned by {turned} degrees (image_rotation); turn "
                "the file itself, and draw it again."
            )
        size = stated_size(entry.get("original_height"), entry.get("original_width"), where)
        yield where, {**known["value"], "kind": known["kind"]}, size


def _class(value: dict, where: str) -> Any:
    labels = [v for key, v in value.items() if str(key).endswith("labels") and v not in (None, [])]
    names = labels[0] if labels else None
    if isinstance(names, list):
        if len(names) > 1:
            raise UserError(f"{where} has the classes {', '.join(map(repr, names[:5]))}; give it one.")
        return names[0]
    return names


def _segmentation(value: dict, where: str, size: tuple[int, int]) -> list | dict:
    if "rle" in value:
        if value.get("format") not in (None, "rle"):
            raise UserError(f"{where} has a mask in the format {value['format']!r}; export it as 'rle'.")
        return encode(decode_brush(value["rle"], size, where))
    if "points" in value:
        return [polygon(value["points"], where, size, percent=True)]
    if "radiusX" in value:
        numbers = [number(value.get(key), key, where) for key in ("x", "y", "radiusX", "radiusY")]
        cx, cy, rx, ry = _pixels(numbers, size)
        check_near((cx, cy, rx, ry), where, size)
        return [ellipse(cx, cy, rx, ry, _angle(value, where), size=size)]
    if "width" in value:
        numbers = [number(value.get(key), key, where) for key in ("x", "y", "width", "height")]
        x, y, width, height = _pixels(numbers, size)
        check_near((x, y, x + width, y + height), where, size)
        return [_turned(x, y, width, height, _angle(value, where))]
    raise UserError(f"{where} has neither points nor a box nor a mask; export the project as JSON.")


def _pixels(shares: list[float], size: tuple[int, int]) -> list[float]:
    return [round(share * size[1 - i % 2] / 100, 4) for i, share in enumerate(shares)]


def _angle(value: dict, where: str) -> float:
    return math.radians(number(value.get("rotation") or 0, "a rotation of", where))


def _turned(x: float, y: float, width: float, height: float, angle: float) -> list[float]:
    """A rectangle that is turned clockwise about its upper left corner."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    cos, sin = math.cos(angle), math.sin(angle)
    return (corners @ np.array([[cos, sin], [-sin, cos]]) + [x, y]).round(4).reshape(-1).tolist()
