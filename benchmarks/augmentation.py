"""CPU time of the augmentation for one picture of 1024 x 1024 with 20 objects, without decoding it.

    python benchmarks/augmentation.py

Prints the least of several runs in milliseconds, for each kernel of ``ModelConfig.resize_kernel``.
"""

import time
from types import SimpleNamespace

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.augment.copy_paste import choose_pasted, paste
from jaxmaskrcnn.data.augment.photometric import Distortion
from jaxmaskrcnn.data.augment.scene import transform_scene
from jaxmaskrcnn.data.fields.targets import empty_targets, fill_targets
from jaxmaskrcnn.data.transforms import Geometry

SIDE, OBJECTS = 1024, 20
WHOLE = (0, 0, SIDE, SIDE)
NEUTRAL = Geometry(WHOLE, 0.0, (SIDE, SIDE), False, WHOLE)
COLOURS = Distortion(1.1, 1.2, 0.8, 0.03, True, (2, 0, 1))
EACH = {
    "no augmentation": (NEUTRAL, None),
    "jitter, scale 0.5": (NEUTRAL._replace(size=(512, 512), window=(0, 0, 512, 512)), None),
    "jitter, scale 1.25": (NEUTRAL._replace(size=(1280, 1280), window=(90, 90, SIDE, SIDE)), None),
    "jitter, scale 2": (NEUTRAL._replace(size=(2048, 2048), window=(500, 500, SIDE, SIDE)), None),
    "crop": (Geometry((100, 150, 700, 800), 0.0, (896, SIDE), False, (0, 0, 896, SIDE)), None),
    "rotation": (NEUTRAL._replace(angle=10.0), None),
    "all five colour distortions": (NEUTRAL, COLOURS),
}
TOGETHER = Geometry((50, 50, 900, 950), 8.0, (1213, 1280), True, (90, 120, SIDE, SIDE)), COLOURS


def picture(seed: int):
    """Smooth noise, with ellipses for objects."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    y, x = np.mgrid[:SIDE, :SIDE]
    rles, boxes = [], []
    for _ in range(OBJECTS):
        (cy, cx), (ry, rx) = rng.uniform(0, SIDE, 2), rng.uniform(30, 220, 2)
        mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        rles.append(mask_utils.encode(np.asfortranarray(mask, np.uint8))["counts"])
        boxes.append(np.clip([cx - rx, cy - ry, cx + rx, cy + ry], 0, SIDE))
    return np.asarray(image), SimpleNamespace(
        size=(SIDE, SIDE),
        labels=np.zeros(OBJECTS, np.int32),
        crowd=np.zeros(OBJECTS, bool),
        areas=np.zeros(OBJECTS, np.float32),
        columns={"bbox": np.array(boxes, np.float32), "rle": tuple(rles)},
    )


def milliseconds(function, repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - start))
    return min(times)


def measure(model: ModelConfig) -> None:
    first, second = picture(0), picture(1)

    def scene(record, plan):
        return transform_scene(*record, *plan, model, ("masks", "boxes"))

    def pack(one):
        targets = empty_targets(1, 2 * OBJECTS, (SIDE, SIDE), {"masks": 1, "boxes": 1})
        fill_targets(targets, 0, one.objects)

    def pasted(below, above):
        return paste(below, above, choose_pasted(above.objects.crowd, 0))

    def both():
        pack(pasted(scene(first, TOGETHER), scene(second, TOGETHER)))

    cases = {name: lambda plan=plan: pack(scene(first, plan)) for name, plan in EACH.items()}
    ready = scene(first, EACH["no augmentation"]), scene(second, EACH["no augmentation"])
    cases["pasting alone"] = lambda: pasted(*ready)
    cases["all but pasting"] = lambda: pack(scene(first, TOGETHER))
    cases["all for both pictures"] = both
    for name, function in cases.items():
        print(f"{model.input.resize_kernel:6}{name:30}{milliseconds(function):6.0f} ms")


def main() -> None:
    for kernel in ("pil", "cv2", "torch"):
        measure(
            ModelConfig().replace({"input.resize_kernel": kernel, "input.normalise_before_resize": False})
        )


if __name__ == "__main__":
    main()
