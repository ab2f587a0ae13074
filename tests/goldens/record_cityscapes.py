"""Records Cityscapes' AP of random scenes, by its own program, into cityscapes.npz.

Needs cityscapesscripts (2.3.0), numpy and Pillow. Run from the root of the repository:
``python tests/goldens/record_cityscapes.py``.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle_codec

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
np.in1d = np.isin  # which the program needs, and NumPy has not had since 2.4

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as program  # noqa: E402
from measured_scenes import CITYSCAPES_SEEDS, checksum, cityscapes_scene  # noqa: E402

program.writeDict2JSON = lambda *_: None  # it fails on NumPy's numbers


def main():
    out = {}
    for seed in CITYSCAPES_SEEDS:
        pictures, found = cityscapes_scene(seed)
        with tempfile.TemporaryDirectory() as folder:
            root, truths, predictions = Path(folder).resolve(), [], []
            for i, (ids, masks) in enumerate(zip(pictures, found, strict=True)):
                truths.append(str(root / f"ulm_{i:06}_000019_gtFine_instanceIds.png"))
                Image.fromarray(np.array(ids, np.uint16)).save(truths[-1])
                predictions.append(str(root / f"ulm_{i:06}_000019.txt"))
                lines = []
                for j, (kind, score, rle) in enumerate(masks):
                    Image.fromarray(rle_codec.decode(rle) * np.uint8(255)).save(root / f"{i}_{j}.png")
                    lines.append(f"{i}_{j}.png {kind} {score}\n")
                Path(predictions[-1]).write_text("".join(lines))
            args = program.args
            args.predictionPath, args.gtInstancesFile = str(root), str(root / "gtInstances.json")
            args.JSONOutput, args.quiet = False, True
            results = program.evaluateImgLists(predictions, truths, args)
        out[f"ap_{seed}"] = np.array(results["resultApMatrix"])[0]  # [class, threshold]
        averages = results["averages"]
        out[f"mean_{seed}"] = np.array([averages["allAp"], averages["allAp50%"]])
        out[f"scene_{seed}"] = np.array(checksum([pictures, found]))
    out["classes"] = np.array(program.args.instLabels)
    np.savez_compressed(HERE / "cityscapes.npz", **out)


if __name__ == "__main__":
    main()
