"""The masks of objects: from a json's segmentation to the packed bits that targets carry.

Shape legend: G objects of an image, B images, H, W the height and width of the canvas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.fields.field import BadAnnotation, Field, TargetImage
from jaxmaskrcnn.data.fields.pieces import MaskGrid, Piece, decode_piece, tighten
from jaxmaskrcnn.data.fields.polygons import given_polygons, needs_polygons
from jaxmaskrcnn.data.rle import check_counts, polygons_to_counts, uncompressed_to_counts
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Targets


@dataclass(frozen=True, eq=False)
class Masks(Field):
    """The masks of an image's objects.

    Attributes:
        pieces: G masks, each without the empty rows and columns around it; None for an empty mask.
    """

    pieces: tuple[Piece | None, ...]

    name = "masks"
    COLUMNS = {"rle": str}  # compressed COCO RLE counts over the whole image; empty where there is no mask
    COUNTS = ("bitmap_counts",)  # number of objects without polygons, not counting crowd regions

    @classmethod
    def parse(cls, entry: Mapping, size: tuple[float, float], columns: Mapping, required: bool) -> dict:
        return {"rle": _counts(entry.get("segmentation"), *size, required)}

    @classmethod
    def annotated_area(cls, columns: Mapping, size: tuple[int, int]) -> float | None:
        if not columns["rle"]:
            return None
        return mask_utils.area({"size": list(size), "counts": columns["rle"]})

    @classmethod
    def count(cls, objects: Sequence) -> dict[str, int]:
        return {"bitmap_counts": sum(not (item.crowd or item.packed) for item in objects)}

    @classmethod
    def read(cls, columns: Mapping, size: tuple[int, int]) -> "Masks":
        return cls(tuple(decode_piece(counts, size) for counts in columns["rle"]))

    @classmethod
    def is_required(cls, target: Mapping, model: ModelConfig) -> bool:
        return model.mask is not None and not given_polygons(target, model)

    @classmethod
    def from_target(cls, target: Mapping, image: TargetImage, fields: Mapping[str, Field]) -> "Masks | None":
        i, count = image.number, len(image.crowd)
        if image.model.mask is None:
            return None
        if "polygons" in fields:
            missing = np.flatnonzero(fields["polygons"].missing() & ~image.crowd)
            if not len(missing):
                return None
            if "masks" not in target:
                raise UserError(
                    f"object {missing[0]} of image {i} has neither polygons nor masks; give one of them."
                )
        masks = np.asarray(target["masks"])
        if count == 0 and masks.size == 0:
            masks = np.zeros((0, *image.size), bool)
        if masks.shape != (count, *image.size) or masks.dtype not in (np.dtype(bool), np.dtype(np.uint8)):
            raise UserError(
                f"the target of image {i} has {masks.dtype} masks {list(masks.shape)}; give bool "
                f"[{count}, {image.size[0]}, {image.size[1]}], at the image's own size."
            )
        return cls(tuple(tighten(0, 0, mask) for mask in masks.astype(bool)))

    def counts(self) -> dict[str, int]:
        return {"bitmap_counts": max(len(self.pieces), 1)}

    def transform(self, geometry: Geometry, model: ModelConfig) -> "Masks":
        return Masks(tuple(map(MaskGrid(geometry, model.input.resize_kernel), self.pieces)))

    def hide(self, cover: np.ndarray) -> "Masks":
        """Removes the pixels that are covered; a piece that loses none stays the same Python object."""
        pieces = []
        for piece in self.pieces:
            if piece is not None and (covered := cover[piece.place] & piece.pixels).any():
                piece = tighten(piece.top, piece.left, piece.pixels & ~covered)
            pieces.append(piece)
        return Masks(tuple(pieces))

    def move(self, top: int, left: int) -> "Masks":
        def moved(piece: Piece | None) -> Piece | None:
            return piece and piece._replace(top=piece.top + top, left=piece.left + left)

        return Masks(tuple(map(moved, self.pieces)))

    def take(self, chosen: np.ndarray) -> "Masks":
        return Masks(tuple(self.pieces[g] for g in chosen))

    def join(self, other: "Masks") -> "Masks":
        return Masks(self.pieces + other.pieces)

    def remains(self) -> np.ndarray:
        return np.asarray([piece is not None for piece in self.pieces], bool)

    def tight_boxes(self) -> np.ndarray:
        boxes = [(0, 0, 0, 0) if piece is None else piece.box for piece in self.pieces]
        return np.asarray(boxes, np.float32).reshape(-1, 4)

    def areas(self) -> np.ndarray:
        return np.asarray([0 if piece is None else piece.pixels.sum() for piece in self.pieces])

    @classmethod
    def room(cls, counts: Mapping[str, int], model: ModelConfig, *, augmented: bool) -> int:
        if model.mask is None:
            return 0
        if augmented or not needs_polygons(model) or not counts["vertex_counts"]:
            return 1
        return int(counts["bitmap_counts"] > 0)

    @classmethod
    def is_loaded(cls, room: int, has_masks: bool, augmented: bool) -> bool:
        # An object that was cropped has the box of the mask that remains.
        return has_masks if augmented else room > 0

    @classmethod
    def slots(cls, batch: int, objects: int, canvas: tuple[int, int], room: int) -> dict:
        height, width = canvas
        return {"masks": np.zeros((batch, objects, height, -(-width // 8)), np.uint8) if room else None}

    def fill(self, targets: Targets, image: int) -> None:
        if targets.masks is None:
            return
        for packed, piece in zip(targets.masks[image], self.pieces, strict=False):
            if piece is not None:
                left, top, right, bottom = piece.box
                first = left // 8  # bytes of the packed rows begin at multiples of eight
                padded = np.zeros((bottom - top, right - 8 * first), bool)
                padded[:, left - 8 * first :] = piece.pixels
                bits = np.packbits(padded, axis=-1)
                packed[top:bottom, first : first + bits.shape[-1]] = bits


def _counts(value, height: float, width: float, required: bool) -> bytes:
    """Compressed RLE counts of a json's segmentation; polygons must have been checked."""
    if value is None or value == [] or value == {}:
        if required:
            raise BadAnnotation(
                "missing segmentation", "has no segmentation; add polygons or an RLE, or remove it"
            )
        return b""
    if isinstance(value, list):
        return polygons_to_counts(value, height, width)
    if not isinstance(value, dict) or "counts" not in value or "size" not in value:
        raise BadAnnotation(
            "bad segmentation",
            f"has a segmentation of type {type(value).__name__}; give a list of polygons or an RLE "
            "with 'size' and 'counts'",
        )
    if value["size"] != [height, width]:
        raise BadAnnotation(
            "RLE size",
            f"has an RLE of size {value['size']!r} (height, width) for an image of "
            f"[{height}, {width}]; encode it at the image's size",
        )
    counts = value["counts"]
    if isinstance(counts, list):
        counts = uncompressed_to_counts(counts, height, width)
        wrong = None if counts is not None else "its counts are not whole numbers that add up to its pixels"
    elif isinstance(counts, str) and counts.isascii():
        counts = counts.encode("ascii")
        wrong = check_counts(counts, height, width)
    else:
        wrong = f"its counts are of type {type(counts).__name__}"
    if wrong:
        raise BadAnnotation("bad RLE", f"has a malformed RLE ({wrong}); encode the mask again")
    return counts
