"""Cityscapes: a json of polygons for each image, or a picture of instance ids.

The folders are ``leftImg8bit/PART/CITY`` and ``gtFine/PART/CITY`` (or ``gtCoarse``); a folder of the json
files, or one of them, is read too. Polygons are painted in their order, the later ones on top, as
Cityscapes' own scripts make their pictures, so both give the same masks.

An image's entry gets a ``void``: the region, as compressed RLE, in which Cityscapes' own evaluation counts
nothing (`evaluation/cityscapes.py`).

Format: https://github.com/mcordts/cityscapesScripts (``helpers/labels.py``,
``preparation/json2instanceImg.py``).
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import folder_of, label_files, read_indices, read_object
from jaxmaskrcnn.data.importers.instance_ids import CITYSCAPES, Coding, add_coded
from jaxmaskrcnn.data.importers.numbered import encode_values
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.points import polygon, stated_size
from jaxmaskrcnn.data.importers.shapes import encode
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "split"})
_POLYGONS, _IDS = "_polygons.json", "_instanceIds.png"
_KINDS = ("gtFine", "gtCoarse")
_PARTS = ("train", "val", "test", "train_extra")
# Names by id, to read pictures of ids; a picture has no negative ones.
_LABELS = (
    "unlabeled,ego vehicle,rectification border,out of roi,static,dynamic,ground,road,sidewalk,parking,"
    "rail track,building,wall,fence,guard rail,bridge,tunnel,pole,polegroup,traffic light,traffic sign,"
    "vegetation,terrain,sky,person,rider,car,truck,bus,caravan,trailer,train,motorcycle,bicycle"
).split(",")
_UNPAINTED = ("license plate",)  # has a negative id
# Labels that Cityscapes' evaluation ignores, by id; 0 is also what nothing is painted on. The last two have
# instances, with other ids than these, and only their groups are void.
_VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
_WITH_INSTANCES = ("caravan", "trailer")
_VOID_VALUE = -1  # in a picture that is painted here, where 0 is everything else
_WITHOUT_CONTENT = {"ego vehicle", "rectification border", "out of roi", "static"}


def images(source: Path) -> Path:
    """The image folder if none is given: ``leftImg8bit`` in the source or beside a folder above it."""
    folder = folder_of(source)
    for place in (folder, *list(folder.absolute().parents)[:4]):
        if (place / "leftImg8bit").is_dir():
            return place / "leftImg8bit"
    return folder


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image that has annotations.

    Args:
        source: The data set's folder, a folder in it, or a json.
        builder: Collects the images and objects.
        options: ``names`` are the labels to be read; without them the eight that have instances are.
            ``split`` reads one part alone.
    """
    names = list(options.names) if options.names is not None else list(CITYSCAPES.values())
    builder.names = names
    builder.not_images.update(path for path in _all(source, ".png", builder) if _stem(path) is not None)
    files = _files(source, builder)
    parts = {path: _part(path) for path in files}
    if options.split is not None:
        if options.split not in parts.values():
            there = ", ".join(sorted({part for part in parts.values() if part})) or "none"
            raise UserError(
                f"{source} has no part {options.split!r}; --split is one of those there are ({there})."
            )
        files = [path for path in files if parts[path] == options.split]
    for path in files:
        with builder.noting("bad file"):
            if path.name.endswith(_IDS):
                _read_ids(path, parts[path], names, builder)
            else:
                _read_polygons(path, parts[path], names, builder)


def _all(source: Path, suffix: str, builder: Builder) -> list[Path]:
    if not source.is_dir():
        return [source] * (source.suffix == suffix)
    return label_files(source, f"**/*{suffix}", builder)


def _stem(path: Path) -> str | None:
    """The part of a file's name that its image has too; None for other files."""
    for ending in (*(f"_{kind}_" for kind in _KINDS), _POLYGONS, _IDS):
        stem, found, _ = path.name.rpartition(ending)
        if found:
            return stem
    return None


def _part(path: Path) -> str | None:
    return next((folder for folder in reversed(path.parent.parts) if folder in _PARTS), None)


def _files(source: Path, builder: Builder) -> list[Path]:
    """The json of each image, or else its picture of ids. Fine annotations go before coarse ones."""
    paths = [p for p in _all(source, ".png", builder) if p.name.endswith(_IDS)]
    paths += [p for p in _all(source, ".json", builder) if p.name.endswith(_POLYGONS) or source.is_file()]
    coarse = [path for path in paths if "_gtCoarse_" in path.name]
    if 0 < len(coarse) < len(paths):
        paths = [path for path in paths if path not in set(coarse)]
        builder.notes.append(
            f"{len(coarse)} files of gtCoarse are left out, because there is gtFine; give the folder "
            "gtCoarse for them"
        )
    if not paths:
        raise UserError(f"{source} holds no files *{_POLYGONS} or *{_IDS}; give the folder that does.")
    return list({(path.parent, _stem(path)): path for path in paths}.values())  # a json replaces a picture


def _image(path: Path, builder: Builder) -> Path:
    name = _stem(path) or path.stem
    folders = [folder for folder in path.parts[-3:-1] if folder not in _KINDS]
    try:
        own = f"{name}_leftImg8bit.png"
        return builder.folder.find("/".join([*folders, own]), str(path), named=own)
    except UserError as lost:
        try:
            return builder.folder.find(name, str(path))
        except UserError:
            raise lost from None


def _read_polygons(path: Path, part: str | None, names: list[str], builder: Builder) -> None:
    content = read_object(path)
    objects = content.get("objects")
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise UserError(f"{path} has no list 'objects'; give Cityscapes' json files of polygons.")
    size = stated_size(content.get("imgHeight"), content.get("imgWidth"), str(path))
    if size is None:
        raise UserError(f"{path} has no imgHeight and imgWidth; give Cityscapes' json files of polygons.")
    if part == "test" and {item.get("label") for item in objects if _is_text(item)} <= _WITHOUT_CONTENT:
        builder.tally("images of the test set, whose annotations are not public, are left out", str(path))
        return
    image = builder.image(_image(path, builder), str(path), size, part)
    picture = Image.new("I", (size[1], size[0]), _VOID_VALUE)
    draw = ImageDraw.Draw(picture)
    painted: list[tuple[str, bool, str]] = []
    void = [_VOID_VALUE]
    for i, item in enumerate(objects):
        place = f"{path}: object {i} ({item.get('label')!r})"
        if not _is_text(item):
            raise UserError(f"{place} has a label that is no text; correct it.")
        if item.get("deleted") or item["label"] in _UNPAINTED:
            continue
        with builder.noting("bad polygon"):
            flat = polygon(item.get("polygon"), place, size)
            if len(flat) < 6:
                raise UserError(f"{place} has a polygon of {len(flat) // 2} points; give at least 3.")
            label, group = item["label"], False
            if label not in names and label not in _LABELS and label.endswith("group"):
                label, group = label.removesuffix("group"), True
            value = _VOID_VALUE if _is_void(label, group) else 0
            if label in names:
                painted.append((label, group, place))
                value = len(painted)
            if _is_void(label, group):
                void.append(value)
            draw.polygon([(x, y) for x, y in zip(flat[::2], flat[1::2], strict=True)], fill=value)
    values = np.asarray(picture)
    builder.describe(image, void=encode(np.isin(values, void)))
    _add_painted(values, painted, image, builder)


def _is_void(label: str, group: bool) -> bool:
    known = label in _LABELS and _LABELS.index(label) in _VOID
    return known and (group or label not in _WITH_INSTANCES)


def _is_text(item: dict) -> bool:
    return isinstance(item.get("label"), str)


def _add_painted(values: np.ndarray, painted: list, image, builder: Builder) -> None:
    """Adds what is seen of each object; the groups of a class are one crowd region."""
    seen = encode_values(values)
    groups: dict[str, list[int]] = {}
    for value, (label, group, place) in enumerate(painted, 1):
        if value not in seen:
            builder.tally("objects that others cover completely are left out", place)
        elif group:
            groups.setdefault(label, []).append(value)
            builder.tally("groups of objects become crowd regions", place)
        else:
            builder.add(image, label, seen[value], place)
    for label, members in groups.items():
        place = painted[members[0] - 1][2]
        builder.add(image, label, encode(np.isin(values, members)), place, crowd=True)


def _read_ids(path: Path, part: str | None, names: list[str], builder: Builder) -> None:
    values = read_indices(path)
    image = builder.image(_image(path, builder), str(path), values.shape, part)
    builder.describe(image, void=encode(np.isin(values, _VOID)))
    chosen = {i: name for i, name in enumerate(_LABELS) if name in names}
    add_coded(values, image, Coding(1000, chosen, crowds=True), str(path), builder)
