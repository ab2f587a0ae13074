"""What remains of an annotation that is left out: a region in which nothing is right or wrong.

An object that cannot be learned is still in its picture. So its place is neither background in training nor
scored in evaluation and ``report``: it is a crowd region of its class, of the pixels of its mask, or of its
box where the mask cannot be used. If neither can be used, or the class is not known, a detection of the
object counts as wrong, and that is said.
"""

from collections.abc import Mapping

from jaxmaskrcnn.data.coco.box_forms import Form
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.objects import AnnotatedImage, Labels, Object, read_box
from jaxmaskrcnn.data.coco.segmentation import mask_counts
from jaxmaskrcnn.data.fields.boxes import Boxes
from jaxmaskrcnn.data.fields.field import BadAnnotation
from jaxmaskrcnn.data.rle import box_counts, mask_areas

REGION_NOTE = (
    "objects left out whose place is known, where detections of their class are not scored and nothing is "
    "background"
)
LOST_NOTE = "objects left out whose class or place is not known, a detection of which counts as wrong"


def remaining_region(
    entry: Mapping, image: AnnotatedImage, labels: Labels, identity: int, form: Form | None
) -> tuple[Object, list[float]] | None:
    """The region of an annotation that is left out.

    Args:
        entry: The annotation.
        image: Its image; a size of 0 x 0 is not known.
        labels: Label of every category id.
        identity: The annotation's id.
        form: Makes x, y, width and height of the json's boxes, where they are something else.

    Returns:
        A crowd region without polygons, and its box x, y, width, height as it is written; None where the
        class, or any place, is not known. It has a mask where the image's size is known.
    """
    category = entry.get("category_id")
    label = None if isinstance(category, (list, dict)) else labels.get(category)
    if label is None:
        return None
    known = image.height > 0
    size = (image.height, image.width) if known else (10**9, 10**9)
    counts = _counts(entry, size) if known else b""
    mask = {"size": list(size), "counts": counts} if counts else None
    box = read_box(entry.get("bbox"), mask, size, form, Notes(), "")
    try:
        corners = Boxes.parse({"bbox": box}, size, {"rle": counts}, True)["bbox"]
    except BadAnnotation:
        return None
    if known and not counts:
        counts = box_counts(corners, *size)
    area = (corners[2] - corners[0]) * (corners[3] - corners[1])
    return Object(identity, label, True, area, polygons="", rle=counts, bbox=corners, keypoints=""), box


def _counts(entry: Mapping, size: tuple[int, int]) -> bytes:
    """The mask, if it can be used and has pixels."""
    try:
        counts = mask_counts(entry.get("segmentation"), size, Notes(), "")
    except BadAnnotation:
        return b""
    return counts if counts and mask_areas([{"size": list(size), "counts": counts}])[0] else b""
