"""labelme: one json per image, with ``shapes`` in pixels.

Format: https://github.com/wkentaro/labelme (``_label_file.py``, ``_utils/image.py``, ``_utils/shape.py``). It
turns a file upright by its EXIF orientation before anything is drawn on it, and puts the turned picture into
``imageData``. A picture that is there already is shown as it is stored.
"""

import base64
import contextlib
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import folder_of, json_files, read_object
from jaxmaskrcnn.data.importers.keypoint_names import KeypointNames
from jaxmaskrcnn.data.importers.labelme_points import GroupedPoints
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.orientation import as_drawn, is_turned
from jaxmaskrcnn.data.importers.points import stated_size
from jaxmaskrcnn.data.importers.shapes import ellipse, number, rectangle, unite
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "keypoints"})
_NO_AREA = ("point", "points", "line", "linestrip", "line_strip")
# "quadrilateral" and "rotation" are those of X-AnyLabeling.
_POLYGONS = ("polygon", "oriented_rectangle", "rotation", "quadrilateral")
_RESERVED = ("__ignore__", "_background_")  # labelme's own; they are no classes
_ABOVE = 3  # folders above the json files in which images are looked for if none are given


def images(source: Path) -> Path:
    """The image folder if none is given: that of the json files, or the one that their imagePaths lead to."""
    folder = folder_of(source)
    root = Path(os.path.abspath(folder))
    named = set()
    for path in json_files(source):
        with contextlib.suppress(UserError):  # `read` tells it
            name = read_object(path).get("imagePath")
            if isinstance(name, str):
                file = Path(os.path.abspath(path.parent / name.replace("\\", "/")))
                if file.is_file() and file.suffix.lower() in SUFFIXES:
                    named.add(file.parent)
    if not named or all(place.is_relative_to(root) for place in named):
        return folder
    common = Path(os.path.commonpath(named))
    if common in list(root.parents)[_ABOVE:] or common == Path(common.anchor):
        raise UserError(
            f"{source} names images in folders far apart; give the one that holds all by --images."
        )
    return Path(os.path.relpath(common)) if not source.is_absolute() else common


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every json of a folder, or one json.

    Shapes of one label that share a ``group_id`` are parts of one object, and a point with that
    ``group_id`` is its keypoint, named by the point's label.

    Args:
        source: The folder (with its subfolders) or file.
        builder: Collects the images and objects.
        options: ``keypoints`` are the names of the keypoints; without them all that occur are read.
    """
    builder.keypoints = KeypointNames(options.keypoints or ())
    known = None if options.keypoints is None else frozenset(options.keypoints)
    for path in json_files(source, builder):
        with builder.noting("bad file"):
            _read_file(path, builder, known, alone=source.is_file())


def _read_file(path: Path, builder: Builder, known: frozenset[str] | None, alone: bool) -> None:
    content = read_object(path)
    if {"images", "annotations"} <= content.keys():
        if alone:
            raise UserError(f"{path} is in COCO's format already; use it as it is.")
        return  # such as the output of an earlier import
    if not isinstance(content.get("shapes"), list):
        raise UserError(f"{path} has no list 'shapes'; give labelme's json files.")
    name = content.get("imagePath")
    if not isinstance(name, str):
        raise UserError(f"{path} has the imagePath {name!r}; give the name of the image file.")
    size = stated_size(content.get("imageHeight"), content.get("imageWidth"), str(path))
    image = builder.image(*_image(content, name, path, size, builder))

    objects: dict[Any, tuple[str, Any, list]] = {}
    points = GroupedPoints(builder, known)
    for i, shape in enumerate(content["shapes"]):
        label = shape.get("label") if isinstance(shape, dict) else None
        place = f"{path}: shape {i} ({label!r})"
        if isinstance(label, (int, float)) and not isinstance(label, bool):
            label = str(label)
        if label in _RESERVED:
            builder.tally(f"shapes of labelme's reserved label {label!r} are left out", place)
            continue
        with builder.noting("bad shape"):
            if isinstance(shape, dict) and points.takes(shape, place):
                continue
            part = _part(shape, place, (image[0].height, image[0].width), builder)
            if part is None:
                continue
            group = shape.get("group_id")
            key = ("alone", i) if group is None else ("group", str(label), str(group))
            objects.setdefault(key, (place, label, []))[2].append(part)
    outlined = [(None if key[0] == "alone" else key[2], at) for key, (at, *_) in objects.items()]
    keypoints = points.of_objects(outlined)
    for (place, label, parts), own in zip(objects.values(), keypoints, strict=True):
        builder.add(image, label, unite(parts, image[0].height, image[0].width), place, keypoints=own)


def _image(content: dict, name: str, path: Path, size: tuple[int, int] | None, builder: Builder):
    """The arguments of `Builder.image`: the file that is named, or else the picture inside of the json."""
    data = content.get("imageData")
    lost = None
    try:
        file = builder.folder.find(name, str(path), near=path.parent)
        # A file that is only found elsewhere can be another picture than the one inside.
        if file.suffix.lower() in SUFFIXES and (not data or _is_named(file, name, path, builder)):
            if not data or not is_turned(file, size) or not is_turned(_decoded(data, path)):
                return file, str(path), size
            # Readers turn the file, and labelme showed what is inside as it is stored.
            builder.not_images.add(file)
            builder.tally(
                "pictures inside of json files are taken for the files, which viewers turn", str(path)
            )
        else:
            lost = UserError(f"{path} has the imagePath {name!r}, which is no image; give the image's name.")
    except UserError as error:
        lost = error
    if not isinstance(data, str) or not data:
        assert lost is not None
        raise lost
    # labelme draws on the stored pixels of a picture inside, whatever its EXIF orientation says.
    encoded = as_drawn(_decoded(data, path), size)
    stem = path.stem
    if path.is_relative_to(builder.folder.root):
        stem = path.relative_to(builder.folder.root).with_suffix("").as_posix()
    file, found = builder.picture(stem, encoded, str(path))
    if size is not None and size != found:
        raise UserError(
            f"{path} holds a picture of {found[1]} x {found[0]} pixels but gives its size as "
            f"{size[1]} x {size[0]}; correct imageWidth and imageHeight."
        )
    return file, str(path), found


def _decoded(data: Any, path: Path) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} has an 'imageData' that is not base64; save it again in labelme.") from error


def _is_named(file: Path, name: str, path: Path, builder: Builder) -> bool:
    """Whether the imagePath, from the json's folder or from the images', leads to a file."""
    named = name.replace("\\", "/")
    return any(
        os.path.abspath(file) == os.path.abspath(start / named)
        for start in (path.parent, builder.folder.root)
    )


def _part(shape: Any, place: str, size: tuple[int, int], builder: Builder) -> list | np.ndarray | None:
    """The shape as a polygon, or as a mask; None where it has no area."""
    if not isinstance(shape, dict):
        raise UserError(f"{place} is not an object; export the file again.")
    shape_type = shape.get("shape_type") or "polygon"
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise UserError(f"{place} has no list 'points' of x and y; draw it again.")
    flat = [number(value, "the coordinate", place) for point in points for value in point]
    two = ("rectangle", "circle", "mask")
    if shape_type in _NO_AREA:
        builder.leave_out(f"shape_type {shape_type!r}", place)
        return None
    if shape_type in _POLYGONS or (shape_type == "rectangle" and len(points) == 4):
        return flat
    if shape_type not in two:
        if len(points) < 3:
            builder.leave_out(f"shape_type {shape_type!r}", place)
            return None
        builder.tally(f"shapes of the type {shape_type!r} are read as polygons", place)
        return flat
    if len(points) != 2:
        raise UserError(f"{place} is a {shape_type} of {len(points)} points and not of 2; draw it again.")
    x0, y0, x1, y1 = flat
    if shape_type == "rectangle":
        return rectangle(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if shape_type == "circle":  # the centre, and a point on the circle
        radius = math.hypot(x1 - x0, y1 - y0)
        return ellipse(x0, y0, radius, radius, size=size, place=place)
    return _mask(shape.get("mask"), (round(x0), round(y0), round(x1), round(y1)), place, size)


def _mask(text: Any, box: tuple[int, ...], place: str, size: tuple[int, int]) -> np.ndarray:
    """The mask of the whole image, from a PNG of the box's pixels, last row and column included."""
    x0, y0, x1, y1 = box
    wanted = (x1 - x0 + 1, y1 - y0 + 1)
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as picture:
            found = picture.size  # known before it is decoded, so that a giant picture never is
            pixels = np.asarray(picture) > 0 if found == wanted else None
    except Exception as error:  # whatever Pillow raises about a damaged file
        raise UserError(
            f"{place} has a 'mask' that is not a PNG in base64 ({type(error).__name__}); draw it again."
        ) from error
    if pixels is None or x0 < 0 or y0 < 0 or x1 >= size[1] or y1 >= size[0]:
        raise UserError(
            f"{place} has a mask of {found[0]} x {found[1]} pixels for the corners "
            f"({x0}, {y0}) and ({x1}, {y1}) of a {size[1]} x {size[0]} image; draw it again."
        )
    whole = np.zeros(size, bool)
    whole[y0 : y1 + 1, x0 : x1 + 1] = pixels
    return whole
