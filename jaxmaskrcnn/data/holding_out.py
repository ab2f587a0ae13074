"""Images of a json that are held out of training for evaluation, ``data.eval_fraction``."""

import hashlib
import json
from pathlib import Path

from jaxmaskrcnn.data.importers.split import divide
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import write_json

_SEED = 0  # the same images whatever the run's seed, so that runs can be compared


def hold_out(annotations: Path, folder: Path, fraction: float) -> tuple[Path, Path]:
    """Divide a COCO json into one for training and one for evaluation, by image.

    Args:
        annotations: The json.
        folder: Where both are written, unless they are there.
        fraction: Share of the images that are evaluated, above 0 and below 1.

    Returns:
        The paths of the two.

    Raises:
        UserError: The file is no COCO json, or one part would have no image or no object.
    """
    data = annotations.read_bytes()
    place = folder / f"held-out-{hashlib.sha256(data).hexdigest()[:16]}-{fraction:g}"
    paths = place / "train.json", place / "val.json"
    if all(path.exists() for path in paths):
        return paths
    try:
        content = json.loads(data)
        parts = divide(_lists(content), [1 - fraction, fraction], _SEED)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"data.eval_fraction divides a COCO json with images, annotations and categories, and "
            f"{annotations} is none; give data.eval_annotations and data.eval_images instead."
        ) from None
    place.mkdir(parents=True, exist_ok=True)
    rest = {key: value for key, value in content.items() if key not in parts["train"]}
    for path, part in zip(paths, ("train", "val"), strict=True):
        write_json(path, {**rest, **parts[part]})
    return paths


def _lists(content) -> dict[str, list]:
    """The lists that are divided; every annotation says whether it is a crowd region."""
    annotations = [{"iscrowd": 0, **entry} for entry in content["annotations"]]
    return {"images": content["images"], "annotations": annotations, "categories": content["categories"]}
