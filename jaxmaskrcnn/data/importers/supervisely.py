"""Supervisely: a project of ``meta.json`` and dataset folders with ``ann/IMAGE.json`` and ``img/IMAGE``.

Format: https://docs.supervisely.com/customization-and-integration (its annotation format, objects). Whole
coordinates name pixels there: its SDK adds 0.5 to the points of a polygon to get their place in the image,
and the last row and column of a rectangle belong to it (``Geometry._to_subpixel_coordinate_system_json``).
Coordinates with fractions are such places already.
"""

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.coco.objects import is_int
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import label_files, read_object
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.points import flat_points, stated_size
from jaxmaskrcnn.data.importers.shapes import encode, rectangle, with_holes
from jaxmaskrcnn.data.importers.split import NAMES, chosen_part
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name", "split"})
_NO_AREA = ("point", "line", "polyline", "graph", "keypoints", "cuboid", "cuboid_2d")
_BYTES = 1 << 16  # of a PNG beside its pixels


def images(source: Path) -> Path:
    """The image folder if none is given: the project's."""
    return source if source.is_dir() else source.parent


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image that has an annotation file, also those without objects.

    Dataset folders that are all called ``train``, ``val`` or ``test`` are parts of the data set.

    Args:
        source: The project's folder, or that of a dataset.
        builder: Collects the images and objects.
        options: ``names`` in the order of their ids; without them those of ``meta.json``. ``class_name`` is
            the class of all objects. ``split`` reads one part alone.
    """
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; give the project's, which holds meta.json.")
    files: dict[Path, list[Path]] = {}
    for path in label_files(source, "**/ann/*.json", builder):
        files.setdefault(path.parent, []).append(path)
    if not files:
        raise UserError(f"{source} holds no folder 'ann' with json files; give the folder of the project.")
    kinds = _classes(source)
    if options.class_name is not None:
        builder.names = None
    elif options.names is None:
        builder.names = list(kinds) or None
    parts = {folder: NAMES.get(folder.parent.name.lower()) for folder in files}
    if None in parts.values():
        parts = dict.fromkeys(files)
    wanted = chosen_part(options.split, parts.values(), source)
    for folder, paths in files.items():
        if wanted is None or parts[folder] == wanted:
            for path in paths:
                with builder.noting("bad file"):
                    _read_file(path, source, parts[folder], kinds, builder, options)


def _classes(source: Path) -> dict[str, str]:
    """The shape that each class of ``meta.json`` has, by its name."""
    paths = [folder / "meta.json" for folder in (source, source.parent) if (folder / "meta.json").is_file()]
    if not paths:
        return {}
    classes = read_object(paths[0]).get("classes")
    if not isinstance(classes, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("title"), str) for entry in classes
    ):
        raise UserError(f"{paths[0]} has no list 'classes' with a 'title' each; export the project again.")
    kinds = {entry["title"].strip(): str(entry.get("shape")) for entry in classes}
    return {name: kind for name, kind in kinds.items() if kind not in _NO_AREA}


def _read_file(
    path: Path, source: Path, part: str | None, kinds: dict[str, str], builder: Builder, options: Options
) -> None:
    content = read_object(path)
    objects, size = content.get("objects"), content.get("size")
    if not isinstance(objects, list) or not isinstance(size, dict):
        raise UserError(f"{path} has no list 'objects' and no 'size'; give a project of Supervisely.")
    stated = stated_size(size.get("height"), size.get("width"), str(path))
    near = path.parent.parent / "img"
    name = (near / path.stem).relative_to(source).as_posix()
    if (near / path.stem).is_file():
        name = path.stem
    image = builder.image(
        builder.folder.find(name, str(path), near, named=path.stem), str(path), stated, part
    )
    for i, item in enumerate(objects):
        title = item.get("classTitle") if isinstance(item, dict) else None
        place = f"{path}: object {i} ({title!r})"
        with builder.noting("bad object"):
            if not isinstance(item, dict):
                raise UserError(f"{place} is not an object; export the project again.")
            segmentation = _segmentation(
                item, kinds.get(str(title)), place, (image[0].height, image[0].width), builder
            )
            if segmentation is not None:
                builder.add(image, options.class_name or title, segmentation, place)


def _segmentation(
    item: dict, kind: str | None, place: str, size: tuple[int, int], builder: Builder
) -> list | dict[str, Any] | None:
    """A figure as COCO has it; None where it has no area."""
    kind = item.get("geometryType") or ("bitmap" if item.get("bitmap") else kind)
    if kind in _NO_AREA:
        builder.leave_out(f"geometryType {kind!r}", place)
        return None
    match kind:
        case "bitmap":
            return _bitmap(item.get("bitmap"), place, size)
        case "polygon" | "rectangle":
            points = item.get("points")
            if not isinstance(points, dict):
                raise UserError(f"{place} has no 'points'; draw it again.")
            exterior = flat_points(points.get("exterior"), place)
            if kind == "rectangle":
                return [_rectangle(exterior, place)]
            holes = points.get("interior") or []
            if not isinstance(holes, list):
                raise UserError(f"{place} has an 'interior' that is no list of polygons; draw it again.")
            rings = _places([exterior, *(flat_points(hole, place) for hole in holes)])
            return with_holes(rings[0], rings[1:], *size, place) if holes else rings
    builder.tally("figures of geometryTypes that are not known are passed over", f"{place}, {kind!r}")
    return None


def _places(rings: list[list[float]]) -> list[list[float]]:
    """Polygons by the places of their points in the image; a whole number is a pixel, meant in its middle."""
    whole = all(float(value).is_integer() for ring in rings for value in ring)
    return [[value + 0.5 if whole else value for value in ring] for ring in rings]


def _rectangle(corners: list[float], place: str) -> list[float]:
    if len(corners) != 4:
        raise UserError(f"{place} is a rectangle of {len(corners) // 2} points and not of 2; draw it again.")
    (x0, x1), (y0, y1) = sorted(corners[::2]), sorted(corners[1::2])
    last = float(all(float(value).is_integer() for value in corners))
    return rectangle(x0, y0, x1 + last, y1 + last)


def _bitmap(bitmap: Any, place: str, size: tuple[int, int]) -> dict[str, Any]:
    """RLE of the whole image from a PNG, packed with zlib, of the mask's own rectangle."""
    bitmap = bitmap if isinstance(bitmap, dict) else {}
    origin, text = bitmap.get("origin"), bitmap.get("data")
    if not isinstance(origin, list) or len(origin) != 2 or not all(map(is_int, origin)):
        raise UserError(f"{place} has a bitmap with the origin {origin!r}; give x and y in pixels.")
    try:
        packed = base64.b64decode(text, validate=True)
        data = packed
        if not packed.startswith(b"\x89PNG"):
            unpacking = zlib.decompressobj()
            data = unpacking.decompress(packed, 4 * size[0] * size[1] + _BYTES)  # no more than the image has
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            x, y = origin
            if x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
                raise UserError(
                    f"{place} has a bitmap of {width} x {height} pixels at ({x}, {y}), which reaches beyond "
                    f"its image of {size[1]} x {size[0]}; draw it again."
                )
            inside = _inside(image)
    except UserError:
        raise
    except Exception as error:  # whatever base64, zlib and Pillow raise about damaged data
        raise UserError(
            f"{place} has a bitmap that is no PNG in zlib and base64 ({type(error).__name__}); draw it again."
        ) from error
    whole = np.zeros(size, bool)
    whole[y : y + height, x : x + width] = inside
    return encode(whole)


def _inside(image: Image.Image) -> np.ndarray:
    """The pixels of a bitmap: those that are not transparent, or else not 0."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))[..., 3] > 0
    return np.asarray(image if image.mode in ("1", "L", "P") else image.convert("L")) > 0
