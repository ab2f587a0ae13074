"""Cellpose: a file ``NAME_seg.npy`` beside each image, with the masks that were drawn or found in it.

Format: https://cellpose.readthedocs.io/en/latest/outputs.html. The files are pickles; nothing in them is run.
"""

from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import folder_of, label_files
from jaxmaskrcnn.data.importers.numbered import encode_values
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.pickles.object_files import read_object_file

OPTIONS = frozenset({"names", "class_name"})
_ENDING = "_seg.npy"
_CLASS = "cell"


def images(source: Path) -> Path:
    """The image folder if none is given: that of the files."""
    return folder_of(source)


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every ``_seg.npy`` of a folder, or one.

    Args:
        source: The folder (with its subfolders) or file.
        builder: Collects the images and objects.
        options: ``class_name`` is the class of all objects, "cell" if it is not given.
    """
    paths = label_files(source, f"**/*{_ENDING}", builder) if source.is_dir() else [source]
    if not paths:
        raise UserError(f"{source} holds no files *{_ENDING}; give the folder that does.")
    others = ("_cp_masks", "_masks", "_cp_outlines", "_outlines", "_flows", "_cp_flows", "_dP", "_cp_output")
    builder.not_images.update(
        builder.folder.root / name
        for name in builder.folder.names()
        if name.rpartition(".")[0].endswith(others)
    )
    for path in paths:
        with builder.noting("bad file"):
            content = read_object_file(path)
            masks = _masks(content, path)
            image = builder.image(_image(content, path, builder), str(path), masks.shape)
            for value, rle in encode_values(masks).items():
                builder.add(image, options.class_name or _CLASS, rle, f"{path}: mask {value}")


def _masks(content: Any, path: Path) -> np.ndarray:
    """The masks, whole numbers [H, W], 0 where there is no cell."""
    masks = content.get("masks") if isinstance(content, dict) else None
    if not isinstance(masks, np.ndarray):
        raise UserError(f"{path} has no array 'masks'; give the files that Cellpose writes.")
    if masks.ndim == 3 and masks.shape[0] == 1:
        masks = masks[0]
    if masks.ndim != 2:
        raise UserError(
            f"{path} has masks of the shape {list(masks.shape)}, a stack; save each plane by itself."
        )
    if masks.dtype.kind not in "uib" or masks.min(initial=0) < 0:
        raise UserError(f"{path} has masks of {masks.dtype}, or below 0; save whole numbers.")
    return masks


def _image(content: dict, path: Path, builder: Builder) -> Path:
    """The image beside the file and of its name, or else the one that the file names."""
    stem = path.name.removesuffix(_ENDING)
    beside = [p for p in sorted(path.parent.glob("*")) if p.stem == stem and p.suffix.lower() in SUFFIXES]
    if len(beside) == 1 and beside[0].absolute().is_relative_to(builder.folder.root.absolute()):
        return builder.folder.root / beside[0].absolute().relative_to(builder.folder.root.absolute())
    named = content.get("filename")
    if isinstance(named, list) and len(named) == 1:
        named = named[0]
    if isinstance(named, str) and named:
        try:
            if (path.parent / PureWindowsPath(named).name).is_file():  # where Cellpose writes its files
                named = PureWindowsPath(named).name
            return builder.folder.find(PureWindowsPath(named).as_posix(), str(path), near=path.parent)
        except UserError:
            if beside:
                raise
    return builder.folder.find(stem, str(path))
