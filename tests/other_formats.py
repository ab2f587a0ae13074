"""Writers of other tools' annotations, from the same few objects; what they read back must be equal.

Each writes images into a folder and annotations in the format, as its public documentation says.
"""

import base64
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.data.rle import decode_mask

SIZES = {"a.png": (32, 40), "b.jpg": (50, 30), "c.png": (24, 24)}  # height, width


class Thing(NamedTuple):
    image: str
    name: str
    polygons: list  # of x, y, ...


THINGS = [
    Thing("a.png", "cat", [[2.5, 2.0, 20.25, 3.0, 10.0, 18.0]]),
    Thing("a.png", "dog", [[22.0, 20.0, 38.0, 20.0, 38.0, 30.0, 22.0, 30.0]]),
    Thing("b.jpg", "cat", [[1.0, 1.0, 12.0, 1.0, 12.0, 12.0], [15.0, 20.0, 28.0, 22.0, 25.0, 40.0]]),
]


def rasterise(polygons, size) -> np.ndarray:
    return decode_mask(mask_utils.merge(mask_utils.frPyObjects(polygons, *size))["counts"], *size).T


def masks_of(image: str) -> list[np.ndarray]:
    return [rasterise(t.polygons, SIZES[image]) for t in THINGS if t.image == image]


def write_images(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, size) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def pairs(flat):
    return [list(point) for point in zip(flat[::2], flat[1::2], strict=True)]


def labelme_shape(label, points, kind="polygon", group=None, **more):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}, **more}


def labelme_file(name, shapes, **changes):
    height, width = SIZES[name]
    return {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None,
        "imageHeight": height, "imageWidth": width,
    } | changes  # fmt: skip


def labelme_mask(mask: np.ndarray, x: int, y: int, label: str):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    corners = [[x, y], [x + mask.shape[1] - 1, y + mask.shape[0] - 1]]
    return labelme_shape(label, corners, "mask", mask=base64.b64encode(file.getvalue()).decode())


def write_labelme(folder: Path) -> Path:
    write_images(folder)
    for name in SIZES:
        shapes = [
            labelme_shape(thing.name, pairs(polygon), group=None if len(thing.polygons) == 1 else i)
            for i, thing in enumerate(THINGS)
            if thing.image == name
            for polygon in thing.polygons
        ]
        (folder / f"{Path(name).stem}.json").write_text(json.dumps(labelme_file(name, shapes)))
    return folder


def via_region(shape, attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def via_polygon(flat, kind="polygon"):
    return {"name": kind, "all_points_x": flat[::2], "all_points_y": flat[1::2]}


def via_entries(attribute="class"):
    """Objects of several polygons become several regions: VIA knows no groups."""
    return {
        f"{name}1234": {
            "filename": name,
            "size": 1234,
            "regions": [
                via_region(via_polygon(polygon), {attribute: thing.name})
                for thing in THINGS
                if thing.image == name
                for polygon in thing.polygons
            ],
            "file_attributes": {},
        }
        for name in SIZES
    }


def via_project(entries):
    return {
        "_via_settings": {"project": {"name": "mine"}},
        "_via_img_metadata": entries,
        "_via_attributes": {"region": {"class": {"type": "dropdown", "options": {"cat": "", "dog": ""}}}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(entries),
    }


def write_yolo(folder: Path) -> Path:
    write_images(folder / "images" / "train")
    labels = folder / "labels" / "train"
    labels.mkdir(parents=True)
    for name, (height, width) in SIZES.items():
        lines = [
            f"{['dog', 'cat'].index(thing.name)} "
            + " ".join(repr(v / (width, height)[i % 2]) for i, v in enumerate(polygon))
            for thing in THINGS
            if thing.image == name
            for polygon in thing.polygons
        ]
        if lines:
            (labels / f"{Path(name).stem}.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nnames:\n  0: dog\n  1: cat\n")
    return folder


def voc_palette():
    colours = []
    for index in range(256):
        r = g = b = 0
        value = index
        for shift in range(7, -1, -1):
            r |= (value & 1) << shift
            g |= (value >> 1 & 1) << shift
            b |= (value >> 2 & 1) << shift
            value >>= 3
        colours += [r, g, b]
    return colours


def save_palette(values: np.ndarray, path: Path) -> None:
    image = Image.new("P", values.shape[::-1])
    image.putdata(values.reshape(-1).tolist())
    image.putpalette(voc_palette())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def border(mask: np.ndarray) -> np.ndarray:
    """The mask's outermost pixels, which VOC gives to nobody."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def voc_xml(name, objects):
    height, width = SIZES[name]
    rows = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, (x0, y0, x1, y1) in objects
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>{rows}</annotation>"
    )


def write_voc(folder: Path) -> tuple[Path, dict[str, list[np.ndarray]]]:
    """Returns the masks without their borders too."""
    write_images(folder / "JPEGImages")
    left = {}
    for name, size in SIZES.items():
        objects, classes, listed = np.zeros(size, int), np.zeros(size, int), []
        things = [t for t in THINGS if t.image == name]
        for i, (thing, mask) in enumerate(zip(things, masks_of(name), strict=True), 1):
            for values, value in ((objects, i), (classes, {"cat": 8, "dog": 12}[thing.name])):
                values[mask] = value
                values[border(mask)] = 255
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            corners = (columns[0] + 1, rows[0] + 1, columns[-1] + 1, rows[-1] + 1)
            listed.append((thing.name, corners))
        left[name] = [objects == i + 1 for i in range(len(things))]
        stem = Path(name).stem
        save_palette(objects, folder / "SegmentationObject" / f"{stem}.png")
        save_palette(classes, folder / "SegmentationClass" / f"{stem}.png")
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml(name, listed))
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    return folder, left
