"""YOLO's boxes: a txt per image, a line per object: class, centre x and y, width and height as shares.

The json that is made has boxes and no masks, for a Faster R-CNN (``model.mask`` is none).

Format: https://docs.ultralytics.com/datasets/detect/
"""

from pathlib import Path

from jaxmaskrcnn.data.importers import yolo_seg
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.errors import UserError

OPTIONS = yolo_seg.OPTIONS
_BEYOND = 0.01  # share of the image's side by which a box may lie outside it

images = yolo_seg.images


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image of the image folder, as ``yolo-seg`` finds them; one without a txt has no objects.

    Args:
        source: Folder of the txt files, or the data set's, which has ``labels`` or a yaml.
        builder: Collects the images and objects.
        options: ``names`` in the order of the class numbers; without them the yaml's are taken.
            ``split`` reads one part alone.
    """
    builder.masks = False
    yolo_seg.read_labels(source, builder, options, _add_box, masks=False)


def _add_box(words: list[str], place: str, image, names: list[str], builder: Builder) -> None:
    label, shares = yolo_seg.parse_line(words, place, len(names))
    if len(shares) == 4:
        box = _corners(shares, place, image[0].height, image[0].width)
    elif len(shares) == 5:
        raise UserError(
            f"{place} has 5 numbers after the class, as predictions with their scores have; give annotations."
        )
    else:
        points = yolo_seg.polygon_of(shares, place, image[0])
        box = [min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])]
        builder.tally("polygons are read as the boxes around them", place)
    builder.add(image, names[label], None, place, box=box)


def _corners(shares: list[float], place: str, height: int, width: int) -> list[float]:
    """XYXY in pixels; the builder cuts it at the border of the image.

    Raises:
        UserError: The box has no area, or lies outside of the image.
    """
    cx, cy, w, h = shares
    low, high = (cx - w / 2, cy - h / 2), (cx + w / 2, cy + h / 2)
    if not (min(low) >= -_BEYOND and max(high) <= 1 + _BEYOND):
        raise UserError(
            f"{place} is a box from ({low[0]:.4g}, {low[1]:.4g}) to ({high[0]:.4g}, {high[1]:.4g}), and 0 to "
            "1 is the image; divide x by the image's width and y by its height."
        )
    sides = (width, height)
    return [round(share * side, 4) for pair in (low, high) for share, side in zip(pair, sides, strict=True)]
