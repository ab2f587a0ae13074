"""Names the tool that an annotation file comes from if it is not COCO json."""

from collections.abc import Callable
from typing import Any, NamedTuple

_PLACES = {"bbox", "segmentation", "segments_info"}  # fields that say where an object is
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
    return _first(FILES + TOOLS, content)


def other_file(text: str) -> str | None:
    """Says of what kind a file is that is no text of annotations at all, such as a web page or an archive.

    Args:
        text: Its first characters, or its first bytes, each a character.

    Returns:
        As of `other_tool`.

    Example:
        >>> other_file("<!DOCTYPE html>")
        'is a web page and no file of annotations; download the file itself'
    """
    return _first(FILES, text)


def tool_of(content: Any) -> "Tool | None":
    """The tool that a parsed json comes from; None where it is not known."""
    return next((tool for tool in TOOLS if tool.matches(content)), None)


def _first(tools: "tuple[Tool, ...]", content: Any) -> str | None:
    for tool in tools:
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
    if "_via_img_metadata" in content or {"file", "view", "metadata"} <= content.keys():  # VIA 2 and 3
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


def without_objects(content: Any) -> bool:
    """Whether a json is of COCO's form, and is about captions or keypoints alone, without boxes and masks."""
    return _of_kind("caption")(content) or _of_kind("keypoints")(content)


def _of_kind(key: str) -> Callable[[Any], bool]:
    def matches(content):
        entries = content["annotations"] if _has("images", "annotations")(content) else None
        # An entry that is empty may not have been read; see `load.unread`.
        return (
            isinstance(entries, list)
            and all(isinstance(entry, dict) and entry and not entry.keys() & _PLACES for entry in entries)
            and any(key in entry for entry in entries)
        )

    return matches


def _is_data_yaml(content) -> bool:
    keys = set(content) if isinstance(content, dict) else set()
    if isinstance(content, str):
        keys = {line.partition(":")[0] for line in content.splitlines() if ":" in line and line[:1].isalpha()}
    return {"train", "val"} <= keys or ("names" in keys and bool(keys & {"train", "val", "nc", "path"}))


def _is_empty(content) -> bool:
    return isinstance(content, str) and not content.strip("\ufeff \n\r\t\0")


def _is_page(content) -> bool:
    return isinstance(content, str) and _starts("<!doctype", "<html", "<head")(content[:100].lower())


def _is_archive(content) -> bool:
    return isinstance(content, str) and (
        content.startswith(("PK\3\4", "\x1f\x8b", "BZh", "7z\xbc\xaf", "\xfd7zXZ", "Rar!"))
        or content[257:262] == "ustar"
    )


def _is_csv_of_boxes(content) -> bool:
    columns = (
        set(content.split("\n")[0].lower().replace('"', "").split(",")) if isinstance(content, str) else set()
    )
    return len(columns & {"xmin", "ymin", "xmax", "ymax"}) == 4 or {"imageid", "labelname"} <= columns


def _is_records(content) -> bool:
    """TensorFlow's records: the first one's length in eight bytes, a checksum, and a message."""
    return isinstance(content, str) and content[4:8] == "\0\0\0\0" and content[12:13] == "\n"


def _any(*matches: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda content: any(one(content) for one in matches)


_EXPORT = "export COCO instances from the tool"
COCO_ADVICE = (
    "export COCO json from the tool, or put the objects into its lists 'images', 'annotations' and "
    "'categories'"
)
_INSTANCES = (
    "give the json of the same images that has them, which COCO calls instances (instances_val2017.json)"
)

FILES = (
    Tool("is empty", "", "export the annotations again, or restore the file", _is_empty),
    Tool(
        "is a Git LFS pointer and not the file itself", "", "fetch that with git lfs pull",
        _starts("version https://git-lfs"),
    ),
    Tool(
        "is a web page and no file of annotations", "", "download the file itself", _is_page,
    ),
    Tool("is an archive (zip, gzip, tar or another)", "", "unpack it, and give the file in it", _is_archive),
    Tool(
        "is a picture and no file of annotations", "", "give the annotations of the pictures",
        _starts("\x89PNG", "\xff\xd8\xff", "GIF8", "II*\0", "MM\0*"),
    ),
    Tool("is a PDF and no file of annotations", "", "give the annotations themselves", _starts("%PDF-")),
    Tool("is a Parquet file, as Hugging Face has them", "", COCO_ADVICE, _starts("PAR1")),
    Tool("is a file of HDF5", "", COCO_ADVICE, _starts("\x89HDF\r")),
    Tool("is a file of MATLAB", "", COCO_ADVICE, _starts("MATLAB 5.0 MAT-file")),
    Tool("is a database of SQLite", "", COCO_ADVICE, _starts("SQLite format 3")),
    Tool("is a pickle of Python", "", COCO_ADVICE, _starts("\x80\2", "\x80\3", "\x80\4", "\x80\5")),
    Tool("holds TensorFlow's records (TFRecord)", "", COCO_ADVICE, _is_records),
)  # fmt: skip

TOOLS = (
    Tool("has 'shapes', as labelme's files have", "labelme", "", _has("shapes")),
    Tool("holds regions as VGG Image Annotator writes them", "via", "", _is_via),
    Tool(
        "is COCO's panoptic json, whose masks are pictures", "panoptic", "", _is_panoptic,
    ),
    Tool("is COCO's json of captions, without boxes and masks", "", _INSTANCES, _of_kind("caption")),
    Tool("is a json of keypoints alone, without boxes and masks", "", _INSTANCES, _of_kind("keypoints")),
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
    Tool(
        "is V7 Darwin's json about one image", "", _EXPORT,
        _any(_has("item", "annotations"), _has("dataset", "image", "annotations")),
    ),
    Tool("is a json of VoTT", "", _EXPORT, _any(_has("asset", "regions"), _has("assets", "tags"))),
    Tool(
        "is Labelbox's own json", "", COCO_ADVICE, _any(_has("data_row", "projects"), _list_with("data_row")),
    ),
    Tool("is SuperAnnotate's json about one image", "", _EXPORT, _has("metadata", "instances")),
    Tool("is about one image, as Segment Anything's files are", "sam", "", _has("image", "annotations")),
    Tool("is Create ML's json, which has boxes alone", "", _EXPORT, _list_with("image", "annotations")),
    Tool(
        "is GeoJSON", "", "convert its coordinates to pixels and write COCO json", _has("features", "type")
    ),
    Tool("has 'frames', as BDD's and Scalabel's files have", "", _EXPORT, _has("frames")),
    Tool("is of an output manifest of SageMaker Ground Truth", "", COCO_ADVICE, _has("source-ref")),
    Tool("is of a file for Vertex AI", "", COCO_ADVICE, _any(_has("imageGcsUri"), _has("imageUri"))),
    Tool("is of a table for Azure Machine Learning", "", COCO_ADVICE, _has("image_url", "label")),
    Tool("is of Prodigy's json", "", COCO_ADVICE, _has("image", "spans")),
    Tool(
        "is of a metadata.jsonl as Hugging Face's image folders have it", "", COCO_ADVICE,
        _has("file_name", "objects"),
    ),
    Tool("is of a file of questions and answers about pictures", "", COCO_ADVICE, _has("image", "suffix")),
    Tool(
        "is a result (image_id, category_id, score)", "", "give the annotations that it was made for",
        _has("image_id", "category_id", "score"),
    ),
    Tool(
        "is an annotation of COCO without its images and classes", "",
        "put all into the list 'annotations' of a json that has 'images' and 'categories' too",
        _any(_has("image_id", "category_id", "bbox"), _list_with("image_id", "category_id", "bbox")),
    ),
    Tool("is an xml file of CVAT", "cvat", "", _is_cvat),
    Tool("is an xml file, as Pascal VOC has one for each image", "voc", "", _starts("<annotation>", "<?xml")),
    Tool(
        "is VGG Image Annotator's csv", "", "export the annotations as json, and import it by --format=via",
        _starts("filename,file_size,", "#filename,file_size,"),
    ),
    Tool("is a csv of boxes", "", COCO_ADVICE, _is_csv_of_boxes),
    Tool("is a csv of run lengths, as Kaggle has them", "rle-csv", "", _is_rle_csv),
    Tool("is a file of NumPy, as Cellpose's _seg.npy are", "cellpose", "", _starts(NPY)),
    Tool(
        "is the description of a YOLO data set", "",
        "give its folder: python -m jaxmaskrcnn import FOLDER --format=yolo-seg (--format=yolo where the "
        "labels are boxes)",
        _is_data_yaml,
    ),
    Tool("holds lines of five numbers, as YOLO's boxes are", "yolo", "", _is_yolo_boxes),
    Tool("holds lines of numbers, as YOLO's labels are", "yolo-seg", "", _is_yolo),
)  # fmt: skip
