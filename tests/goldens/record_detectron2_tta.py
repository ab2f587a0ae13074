"""Record Detectron2's test-time augmentation with the small "fpn" model of `record_detectron2_model.py`.

Usage: python tests/goldens/record_detectron2_tta.py    (needs torch and detectron2; the tests do not)
"""

import copy
import json
from pathlib import Path

import detectron2
import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNNWithTTA
from record_detectron2_model import LANDSCAPE, build
from seeded_weights import seeded_scene

MIN_SIZES, MAX_SIZE = (112, 168), 400  # the second is 1.5 times the model's own


class Recorder(GeneralizedRCNNWithTTA):
    """Keeps the averaged masks as the network puts them out."""

    def _reduce_pred_masks(self, outputs, tfms):
        self.masks = super()._reduce_pred_masks(outputs, tfms)
        return self.masks


def run(cfg, model, image):
    tta = Recorder(cfg, model, batch_size=1)  # batches would share a padded canvas
    tensor = torch.as_tensor(np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)))
    with torch.no_grad():
        found = tta([{"image": tensor, "height": image.shape[0], "width": image.shape[1]}])[0]["instances"]
    return {
        "boxes": found.pred_boxes.tensor.numpy(),
        "scores": found.scores.numpy(),
        "labels": found.pred_classes.numpy(),
        "masks": tta.masks[:, 0].numpy(),
        "final_masks": np.packbits(found.pred_masks.numpy()),
    }


def record():
    cfg, model = build("fpn")
    cfg.merge_from_list(
        ["TEST.AUG.MIN_SIZES", MIN_SIZES, "TEST.AUG.MAX_SIZE", MAX_SIZE, "TEST.AUG.FLIP", True]
    )
    image = seeded_scene(*LANDSCAPE)["image"]
    golden = run(cfg, copy.deepcopy(model), image)
    golden["scene"] = np.array(json.dumps(LANDSCAPE))
    golden["versions"] = np.array(f"torch {torch.__version__}, detectron2 {detectron2.__version__}")
    print(golden["boxes"].round(1), golden["scores"], golden["labels"])
    print("probabilities", golden["masks"].min((1, 2)), golden["masks"].max((1, 2)))
    path = Path(__file__).with_name("detectron2_tta.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    record()
