"""What matterport's Mask R-CNN detects in a folder of images, with its full-size model of COCO.

    PYTHON benchmarks/whole_model/run_matterport.py IMAGES DIRECTORY

PYTHON is the interpreter of the environment that tests/goldens/matterport_original.py describes; this
package is not needed. Writes DIRECTORY/weights.h5, as the original saves it, DIRECTORY/config.py, its
configuration, and DIRECTORY/detections.json for compare.py. The weights are drawn from the arrays' names,
with gains that spread the scores. As in the original's evaluation, detections of all scores count.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "goldens"))
import matterport_original as original  # noqa: E402
from seeded_weights import seeded_matterport_weight  # noqa: E402

FIELDS = {"NUM_CLASSES": 81, "DETECTION_MIN_CONFIDENCE": 0.0}


def seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """As of the golden, with residual branches for 33 blocks, smaller deltas and larger logits."""
    value = seeded_matterport_weight(name, shape)
    factors = {
        "branch2c/gamma": 0.6,
        "rpn_bbox_pred/kernel": 0.5,
        "mrcnn_bbox_fc/kernel": 0.5,
        "mrcnn_class_logits/kernel": 2.0,
    }
    return value * np.float32(next((f for end, f in factors.items() if name.endswith(end)), 1.0))


def spread_classes(model, image: np.ndarray) -> None:
    """Take what all regions of an image have in common out of the class logits, or one class would win."""
    layer = model.keras_model.get_layer("mrcnn_class_logits")
    kernel, bias = layer.get_weights()
    features = original.outputs(model, [image], ["pool_squeeze"])["pool_squeeze"][0]
    common = features.mean(0) / np.linalg.norm(features.mean(0))
    layer.set_weights([kernel - np.outer(common, common @ kernel), bias])


def runs(mask: np.ndarray) -> dict:
    """An uncompressed COCO RLE of a mask, which pycocotools reads too; it is not in this environment."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(np.int8), [0]])
    changes = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def read(path: Path) -> np.ndarray:
    return np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    fields = "".join(f"    {name} = {value!r}\n" for name, value in FIELDS.items())
    text = f'from mrcnn.config import Config\n\n\nclass CocoConfig(Config):\n    NAME = "coco"\n{fields}'
    (arguments.directory / "config.py").write_text(text)
    with tempfile.TemporaryDirectory() as logs:
        model, _ = original.make_model(original.make_config(**FIELDS), seeded, logs)
        paths = sorted(arguments.images.iterdir())
        spread_classes(model, read(paths[0]))
        model.keras_model.save_weights(str(arguments.directory / "weights.h5"))
        results = {}
        for path in paths:
            image = read(path)
            (out,) = model.detect([image])
            results[path.name] = {
                "boxes": out["rois"][:, [1, 0, 3, 2]].tolist(),
                "scores": out["scores"].tolist(),
                "labels": (out["class_ids"] - 1).tolist(),
                "masks": [runs(mask) for mask in out["masks"].transpose(2, 0, 1)],
            }
            spread = ", ".join(f"{s:.3f}" for s in np.percentile(out["scores"], [100, 50, 0]))
            classes = len(set(out["class_ids"].tolist()))
            print(
                f"{path.name}: {len(out['scores'])} detections of {classes} classes, scores {spread}",
                flush=True,
            )
    (arguments.directory / "detections.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
