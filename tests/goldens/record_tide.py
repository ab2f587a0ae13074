"""Records kinds of error and their cost, by TIDE's own program, into tide.npz. Needs tidecv (1.0.1).

Run from the root of the repository: ``python tests/goldens/record_tide.py``.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from report_helpers import random_scene  # noqa: E402  (beside this folder)
from tidecv import TIDE, datasets  # noqa: E402

SEEDS = (0, 1, 3)  # others have IoUs of exactly 0.5, which the program takes for place and the paper does not
# By the names of the library, in the order of jaxmaskrcnn.report.errors.KINDS.
KINDS = ("Loc", "Cls", "Dupe", "Bkg", "Both", "Miss")


def main():
    out = {}
    for seed in SEEDS:
        # The program counts a class without objects as 0, keeps 100 detections of all classes of
        # an image, treats crowds in its own way, and orders equal scores by whether they are errors:
        # none of these are in the scenes.
        content, detections = random_scene(seed, classes=(3, 17, 90), crowds=0, crowded=0)
        for i, score in enumerate(np.random.default_rng(seed).permutation(len(detections))):
            detections[i]["score"] = (score + 1) / (len(detections) + 1)
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("truth.json", "found.json")]
            for path, part in zip(paths, (content, detections), strict=True):
                path.write_text(json.dumps(part))
            tide = TIDE()
            run = tide.evaluate(datasets.COCO(paths[0]), datasets.COCOResult(paths[1]), mode=TIDE.MASK)
        counts = {kind.short_name: count for kind, count in run.count_errors().items()}
        gains = {kind.short_name: gain for kind, gain in run.fix_main_errors().items()}
        objects = [[a["image_id"], a["category_id"], *a["bbox"]] for a in content["annotations"]]
        found = [[d["image_id"], d["category_id"], d["score"], *d["bbox"]] for d in detections]
        out |= {
            f"objects_{seed}": np.array(objects),
            f"found_{seed}": np.array(found),
            f"ap_{seed}": np.array(run.ap / 100),
            f"counts_{seed}": np.array([counts[kind] for kind in KINDS]),
            f"gains_{seed}": np.array([gains[kind] for kind in KINDS]) / 100,
        }
    np.savez_compressed(HERE / "tide.npz", **out)


if __name__ == "__main__":
    main()
