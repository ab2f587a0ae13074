"""Small data sets in the folders of LVIS and of Cityscapes."""

import json
import shutil

import numpy as np
from measured_scenes import THINGS
from PIL import Image

from jaxmaskrcnn.data import write_shapes


def lvis_files(annotations, folder):
    """LVIS' two json files, which name their pictures by addresses alone.

    Args:
        annotations: Folder of the json files.
        folder: Of the folders of COCO, train2017 and val2017.
    """
    annotations.mkdir(parents=True, exist_ok=True)
    for seed, part in enumerate(("train", "val")):
        path, images = write_shapes(annotations / "shapes", 5, 64, seed)
        content = json.loads(path.read_text())
        for entry, letter in zip(content["categories"], "rcf", strict=True):
            entry["frequency"] = letter
        shown = {entry["id"]: set() for entry in content["images"]}
        for entry in content["annotations"]:
            shown[entry["image_id"]].add(entry["category_id"])
            del entry["iscrowd"]
        for i, entry in enumerate(content["images"]):
            name, own = entry.pop("file_name"), "train2017" if i % 2 or part == "train" else "val2017"
            (folder / own).mkdir(parents=True, exist_ok=True)
            entry["coco_url"] = f"http://images.cocodataset.org/{own}/{seed}{i}.png"
            shutil.copy(images / name, folder / own / f"{seed}{i}.png")
            absent = sorted({entry["id"] for entry in content["categories"]} - shown[entry["id"]])
            entry["neg_category_ids"], entry["not_exhaustive_category_ids"] = absent[:1], absent[1:]
        (annotations / f"lvis_v1_{part}.json").write_text(json.dumps(content))


def cityscapes_files(root):
    """Pictures of ids and photographs of six streets, the last two for validation; returns the folder."""
    for i in range(6):
        stem = f"{'val' if i > 3 else 'train'}/ulm/ulm_{i:06}_000019"
        names = ("gtFine", "gtFine_instanceIds"), ("leftImg8bit", "leftImg8bit")
        for (kind, ending), picture in zip(names, _street(i), strict=True):
            path = root / kind / f"{stem}_{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return root


def _street(seed):
    """A picture of ids and of the same things in colours: cars, people, groups, void on the right."""
    rng = np.random.default_rng(seed)
    ids = np.full((64, 64), 7)
    for number in range(5):
        kind, (x, y) = int(rng.choice((24, 26, 33))), rng.integers(0, 36, 2)
        ids[y : y + 20, x : x + 16] = 1000 * kind + number
    ids[50:, :20], ids[:, 58:] = 26, 0
    kinds = np.where(ids >= 1000, ids // 1000, ids)
    colours = rng.integers(0, 255, (34, 3)) * np.isin(np.arange(34), list(THINGS))[:, None]
    return ids.astype(np.uint16), colours[kinds].astype(np.uint8)
