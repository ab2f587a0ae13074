"""Records LVIS' numbers for random scenes, by its own program, into lvis.npz. Needs lvis (0.5.3).

Run from the root of the repository: ``python tests/goldens/record_lvis.py``.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
np.float = float  # which the program needs, and NumPy has not had since 1.24

from lvis import LVIS, LVISEval, LVISResults  # noqa: E402  (after the line above)
from measured_scenes import LVIS_SEEDS, checksum, lvis_scene  # noqa: E402  (beside this folder)


def main():
    out = {}
    for seed in LVIS_SEEDS:
        content, detections = lvis_scene(seed)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "truth.json"
            path.write_text(json.dumps(content))
            for kind, removed in (("bbox", "segmentation"), ("segm", "bbox")):
                # Detectron2 takes the box out before masks are scored, so that a mask's own area counts.
                found = [{k: v for k, v in entry.items() if k != removed} for entry in detections]
                truth = LVIS(str(path))
                run = LVISEval(truth, LVISResults(truth, found), kind)
                run.run()
                out[f"{kind}_{seed}"] = np.array(list(run.results.values()))
                out[f"{kind}_precision_{seed}"] = run.eval["precision"][..., 0].mean((0, 1))
        out[f"scene_{seed}"] = np.array(checksum([content, detections]))
    np.savez_compressed(HERE / "lvis.npz", **out)


if __name__ == "__main__":
    main()
