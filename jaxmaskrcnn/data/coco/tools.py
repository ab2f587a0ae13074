"""Names the tool that an annotation file comes from if it is not COCO json."""

from collections.abc import Callable
from typing import Any, NamedTuple

NPY = "\x93NUMPY"  # how a file of NumPy begins, each byte a character


class Tool(NamedTuple):
    """A file that is not COCO json.

    Attributes:
        found: What is found, after the file's name.
        format: Name for ``import --format``; empty where the file cannot be imported.
        advice: What to do where it cannot.
        matches: Whether a parsed json, or the first characters of a file that is none, is of this tool.
    """

    found: str
    format: str
    advice: str
    matches: Callable[[Any], bool]


def other_tool(content: Any) -> str | None:
    """Says which tool a file comes from and what to do, or None where it is not known.

    Args:
        content: The parsed json, or the first characters of a file that is no json.

    Returns:
        What follows the file's name, without a full stop.

    Example:
        >>> other_tool({"version": "5.0.1", "shapes": [], "imagePath": "a.jpg"})[:38]
        "has 'shapes', as labelme's files have;"
    """
    for tool in TOOLS:
        if tool.matches(content):
            advice = tool.advice
            if tool.format:
                advice = f"convert it: python -m jaxmaskrcnn import SOURCE --format={tool.format}"
            return f"{tool.found}; {advice}"
    return None


def _has(*keys: str) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, dict) and all(key in content for key in keys)


def _list_with(*keys: str) -> Callable[[Any], bool]:
    def matches(content):
        first = content[0] if isinstance(content, list) and content else None
        return isinstance(first, dict) and all(key in first for key in keys)

    return matches


def _is_via(content) -> bool:
    if not isinstance(content, dict):
        return False
    if "_via_img_metadata" in content:
        return True
    values = list(content.values())[:3]
    return bool(values) and all(isinstance(v, dict) and "regions" in v and "filename" in v for v in values)


def _starts(*starts: str) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, str) and content.lstrip("\ufeff \n\r\t").startswith(starts)


def _is_cvat(content) -> bool:
    return isinstance(content, str) and "<annotations" in content


def _is_yolo(content) -> bool:
    line = content.strip().split("\n")[0].split() if isinstance(content, str) else []
    return len(line) >= 5 and line[0].isdigit() and all(part.replace(".", "", 1).isdigit() for part in line)


def _is_yolo_boxes(content) -> bool:
    return _is_yolo(content) and len(content.strip().split("\n")[0].split()) == 5


def _is_rle_csv(content) -> bool:
    return isinstance(content, str) and "encodedpixels" in content.split("\n")[0].lower()


def _is_panoptic(content) -> bool:
    return _has("annotations")(content) and _list_with("segments_info")(content["annotations"])


_EXPORT = "export COCO instances from the tool"

TOOLS = (
    Tool("has 'shapes', as labelme's files have", "labelme", "", _has("shapes")),
    Tool("holds regions as VGG Image Annotator writes them", "via", "", _is_via),
    Tool(
        "is COCO's panoptic json, whose masks are pictures", "panoptic", "", _is_panoptic,
    ),
    Tool(
        "is a list of results (image_id, category_id, score)", "",
        "give the annotations that they were made for",
        _list_with("image_id", "category_id", "score"),
    ),
    Tool("is Label Studio's own json", "label-studio", "", _list_with("data", "annotations")),
    Tool("is Label Studio's own json", "label-studio", "", _list_with("data", "completions")),
    Tool("is Label Studio's short json", "label-studio", "", _list_with("annotation_id", "annotator")),
    Tool("is Datumaro's json", "datumaro", "", _has("items", "categories")),
    Tool("is Supervisely's json about one image", "supervisely", "", _has("size", "objects", "tags")),
    Tool("is the meta.json of a project of Supervisely", "supervisely", "", _has("classes", "tags")),
    Tool("holds Cityscapes' polygons", "cityscapes", "", _has("imgHeight", "imgWidth", "objects")),
    Tool("is ISAT's json", "isat", "", _has("info", "objects")),
    Tool("is about one image, as Segment Anything's files are", "sam", "", _has("image", "annotations")),
    Tool("is Create ML's json, which has boxes alone", "", _EXPORT, _list_with("image", "annotations")),
    Tool(
        "is GeoJSON", "", "convert its coordinates to pixels and write COCO json", _has("features", "type")
    ),
    Tool("has 'frames', as BDD's and Scalabel's files have", "", _EXPORT, _has("frames")),
    Tool("is an xml file of CVAT", "cvat", "", _is_cvat),
    Tool("is an xml file, as Pascal VOC has one for each image", "voc", "", _starts("<annotation>", "<?xml")),
    Tool("is a csv of run lengths, as Kaggle has them", "rle-csv", "", _is_rle_csv),
    Tool("is a file of NumPy, as Cellpose's _seg.npy are", "cellpose", "", _starts(NPY)),
    Tool("holds lines of five numbers, as YOLO's boxes are", "yolo", "", _is_yolo_boxes),
    Tool("holds lines of numbers, as YOLO's labels are", "yolo-seg", "", _is_yolo),
)  # fmt: skip
