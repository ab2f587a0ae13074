"""Mask images: one per image with a value for each object, or a folder per image with one per object.

The second is the layout of the Data Science Bowl 2018: ``ID/images/ID.png`` and ``ID/masks/*.png``.
"""

import re
from pathlib import Path

import numpy as np

from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import label_files, read_indices
from jaxmaskrcnn.data.importers.instance_ids import add_coded, coding
from jaxmaskrcnn.data.importers.numbered import encode_values
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.shapes import encode
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name", "ids"})
_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")  # a JPEG does not keep values
_ENDINGS = (
    "_cp_masks",
    "_masks",
    "_mask",
    "_instances",
    "_instanceids",
    "_label",
    "_labels",
    "-mask",
    "-masks",
)
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "image_2", "JPEGImages", "photos")
_IMAGE_ENDINGS = ("", "_img", "_image")  # Cellpose has 000_img beside 000_masks
_MANY = 20  # with more classes than this, names that mostly differ are taken for numbers of objects


def images(source: Path) -> Path:
    """The image folder if none is given: one named so beside that of the masks, or else that of the masks."""
    if not source.is_dir() or any(map(_pictures, label_files(source, "*/images"))):
        return source
    beside = [source.parent / name for name in _IMAGE_FOLDERS if (source.parent / name).is_dir()]
    beside = [folder for folder in beside if folder.absolute() != source.absolute()]
    pictures = [path for path in label_files(source, "*") if path.suffix.lower() in SUFFIXES]
    among = len(_masks(pictures)) < len(pictures)  # the images lie among the masks
    return beside[0] if beside and not among else source


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image that has masks.

    Args:
        source: Folder of the mask images, or of a folder for each image.
        builder: Collects the images and objects.
        options: ``class_name`` is the class of all objects. Without it, the class of a mask of a single
            object is its file name without the number at the end (``cat_1.png``). ``ids`` says that
            values hold a class too, as those of KITTI do; masks of single objects have none such.
    """
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; give the one that holds the masks.")
    inside = label_files(source, "*", builder)
    folders = [path for path in inside if path.is_dir() and any(_pictures(path))]
    whole = _masks(_pictures(source))
    nested = [path for path in inside if (path / "masks").is_dir()]
    if nested:
        _read_folders(((path, path / "masks") for path in nested), builder, options)
    elif whole:
        _read_whole(whole, builder, options)
    elif folders:
        _read_folders(((path, path) for path in folders), builder, options)
    else:
        raise UserError(
            f"{source} holds neither mask pictures ({', '.join(_SUFFIXES)}) nor folders of them; give the "
            "folder that does."
        )


def _pictures(folder: Path, builder: Builder | None = None) -> list[Path]:
    paths = label_files(folder, "*", builder) if folder.is_dir() else []
    return [p for p in paths if p.suffix.lower() in _SUFFIXES and p.is_file()]


def _masks(pictures: list[Path]) -> list[Path]:
    """Those of the pictures that are masks: those named so, if some are, beside the images; otherwise all."""
    named = [path for path in pictures if path.stem.lower().endswith(_ENDINGS)]
    return named or pictures


def _read_whole(paths: list[Path], builder: Builder, options: Options) -> None:
    """Reads masks with a value for each object and 0 elsewhere."""
    builder.not_images.update(paths)
    if options.ids not in (None, "plain") and options.class_name is not None:
        raise UserError(
            f"--class_name has no effect with --ids={options.ids}, whose values hold it; leave one out."
        )
    coded = None if options.ids in (None, "plain") else coding(options.ids, paths[0].parent)
    if coded is None and options.class_name is None:
        raise UserError(f"{paths[0]} does not name the class of its objects; give it with --class_name.")
    single = 0
    for path in paths:
        with builder.noting("bad mask"):
            values = read_indices(path)
            image = builder.image(_image(path.stem, path, builder), str(path), values.shape)
            found = np.unique(values[values != 0]).tolist()
            if coded is not None:
                add_coded(values, image, coded, str(path), builder)
                continue
            if options.ids is None:
                _refuse_coded(found, path)
            single += found in ([1], [255])
            for value, rle in encode_values(values).items():
                builder.add(image, options.class_name, rle, f"{path}: value {value}")
    if single:
        builder.notes.append(
            f"{single} of {len(paths)} pictures have a single value beside 0, which was taken for a single "
            "object; where objects share a value, number them first."
        )


def _refuse_coded(values: list[int], path: Path) -> None:
    """Refuses values that are not numbers of objects but hold their class too."""
    if len(values) and 1000 <= values[-1] < 65536 and values[-1] > 20 * len(values):
        raise UserError(
            f"{path} has {len(values)} values up to {values[-1]}, which look like a class and a number in "
            "one; say which by --ids=kitti, mots, mapillary or cityscapes, or --ids=plain for plain objects."
        )


def _read_folders(pairs, builder: Builder, options: Options) -> None:
    """Reads masks of one object each."""
    if options.ids is not None:
        raise UserError(
            f"--ids={options.ids} has no effect with a mask picture for each object, whose values hold no "
            "class and no number; leave it out."
        )
    names: list[str] = []
    for folder, masks in pairs:
        with builder.noting("bad mask"):
            paths, image = _pictures(masks, builder), None
            file = _image(folder.name, masks, builder, near=folder / "images")
            builder.not_images.update(paths)
            if not paths:
                raise UserError(f"{masks} holds no masks; add them or remove the folder.")
            for path in paths:
                with builder.noting("bad mask"):
                    values = read_indices(path)
                    image = image or builder.image(file, str(masks), values.shape)
                    size = (image[0].height, image[0].width)
                    if values.shape != size:
                        raise UserError(
                            f"{path} is {values.shape[1]} x {values.shape[0]} pixels and its image "
                            f"{size[1]} x {size[0]}; save the mask at the image's size."
                        )
                    mask = values > (127 if values.max() > 1 else 0)
                    if not mask.any():
                        raise UserError(f"{path} is an empty mask; remove it.")
                    names.append(options.class_name or _class(path))
                    builder.add(image, names[-1], encode(mask), str(path))
    if len(set(names)) > _MANY and len(set(names)) > 0.5 * len(names):
        raise UserError(
            f"the names of the masks give {len(set(names))} classes for {len(names)} objects ({names[0]!r}, "
            f"{names[1]!r}, ...); name the class of all with --class_name."
        )


def _image(stem: str, path: Path, builder: Builder, near: Path | None = None) -> Path:
    """The image with the name of a mask, with or without an ending such as ``_mask``."""
    if near is not None and near.is_dir():
        found = _pictures(near) + label_files(near, "*.jp*g")
        if len(found) == 1 and found[0].is_relative_to(builder.folder.root):
            return found[0]
    for ending in _ENDINGS:
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
            break
    lost = None
    for ending in _IMAGE_ENDINGS:
        try:
            return builder.folder.find(stem + ending, str(path), beside=builder.not_images)
        except UserError as error:
            lost = lost or error
            if "such files" in str(error):
                break
    assert lost is not None
    raise lost


def _class(path: Path) -> str:
    name = re.sub(r"[-_ .]*\d*$", "", path.stem)
    if not name:
        raise UserError(f"{path} does not name the class of its object; give it with --class_name.")
    return name
