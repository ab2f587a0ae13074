"""``python -m jaxmaskrcnn predict``: pictures of detections, and a json of them."""

import argparse
import glob
import logging
import sys
from pathlib import Path

import numpy as np
import tqdm
from pycocotools import mask as rle_codec

from jaxmaskrcnn import compilation_cache
from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.files import write_json

logger = logging.getLogger(__name__)

RESULTS = "predictions.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``predict``."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, folders or quoted patterns")
    parser.add_argument(
        "--checkpoint", required=True, help="model directory, training workdir or checkpoint file"
    )
    parser.add_argument(
        "--model", help="preset, Detectron2 yaml or MMDetection config that the checkpoint is read with"
    )
    parser.add_argument("--bn_eps", type=float, help="epsilon of the backbone's norm layers")
    parser.add_argument("--output", default="predictions", help="folder for the pictures and the json")
    parser.add_argument(
        "--score_threshold", type=float, default=0.5, help="draw and write what scores higher"
    )
    parser.add_argument("--batch_size", type=int, default=1, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Predicts; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code: 0, or 2 where an image could not be read.

    Raises:
        UserError: A path, the checkpoint or a setting is wrong.
    """
    paths = find_images(arguments.images)
    compilation_cache.enable()
    # Late, so that a wrong path is reported before JAX starts.
    from jaxmaskrcnn.inference.drawing import draw_detections
    from jaxmaskrcnn.inference.inputs import read_image
    from jaxmaskrcnn.inference.predictor import Predictor
    from jaxmaskrcnn.model_io import load_model

    model = load_model(arguments.checkpoint, arguments.model, bn_eps=arguments.bn_eps)
    predictor = Predictor(model, arguments.score_threshold)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    names = picture_names(paths, output)

    images, annotations, failures = [], [], 0
    for path, name in zip(tqdm.tqdm(paths, unit="image", disable=len(paths) < 2), names, strict=True):
        try:
            pixels = read_image(path)
        except UserError as error:
            failures += 1
            tqdm.tqdm.write(f"jaxmaskrcnn predict: {error}", file=sys.stderr)
            continue
        out = predictor(pixels, masks="rle")
        draw_detections(pixels, out, predictor.categories).save(output / name)
        height, width = pixels.shape[:2]
        image = {"id": len(images) + 1, "file_name": str(path), "height": height, "width": width}
        images.append({**image, "picture": name})
        annotations += _annotations(out, image, dict(predictor.categories), len(annotations) + 1)
    write_json(
        output / RESULTS,
        {
            "images": images,
            "categories": [category._asdict() for category in predictor.categories],
            "annotations": annotations,
        },
    )
    print(f"{len(annotations)} objects in {len(images)} images; pictures and {RESULTS} are in {output}")
    return 2 if failures else 0


def find_images(patterns: list[str]) -> list[Path]:
    """Files for what a person names: files themselves, folders of images, patterns.

    Args:
        patterns: Paths, or patterns with ``*``, ``?``, ``[...]`` and ``**``.

    Returns:
        The files, without repetitions; a folder's or pattern's in alphabetical order.

    Raises:
        UserError: There is no such file, or none in the folder.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = _images_in(path.iterdir())
            if not matches:
                raise UserError(f"The folder {path} holds no images; give one that does, or files.")
        elif path.exists():
            matches = [path]
        elif glob.has_magic(pattern):
            matches = _images_in(map(Path, glob.glob(pattern, recursive=True)))
            if not matches:
                raise UserError(f"No image matches {pattern!r}; give files, folders or another pattern.")
        else:
            raise UserError(f"{path} does not exist; give image files, folders or patterns.")
        found += matches
    return list(dict.fromkeys(found))


def picture_names(paths: list[Path], output: Path) -> list[str]:
    """A PNG name for each image: its own name, numbered where two would be the same.

    Args:
        paths: The images.
        output: Folder of the pictures; a picture never takes the place of one of the images.

    Returns:
        File names.
    """
    inputs = {path.resolve() for path in paths}
    taken: set[str] = set()
    names = []
    for path in paths:
        name, number = f"{path.stem}.png", 1
        # Some file systems do not tell A.png from a.png.
        while name.lower() in taken or (output / name).resolve() in inputs:
            number += 1
            name = f"{path.stem}-{number}.png"
        taken.add(name.lower())
        names.append(name)
    return names


def _images_in(paths) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())


def _annotations(out, image, names, first_id) -> list[dict]:
    corners = out["boxes"].astype(np.float64)
    entries = []
    for i, (x1, y1, x2, y2) in enumerate(corners.tolist()):
        label = int(out["labels"][i])
        entry = {
            "id": first_id + i,
            "image_id": image["id"],
            "file_name": image["file_name"],
            "category_id": label,
            "category_name": names[label],
            "score": float(out["scores"][i]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        if "masks" in out:
            entry["segmentation"] = out["masks"][i]
            entry["area"] = int(rle_codec.area(out["masks"][i]))
        entries.append(entry)
    return entries
