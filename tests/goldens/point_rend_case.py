"""What PointRend's mask heads are given in the recordings and in the tests: maps, boxes, objects, points."""

import re
import zlib

import numpy as np

try:
    from goldens import seeded_weights as seeded
except ModuleNotFoundError:  # beside the scripts that record
    import seeded_weights as seeded

CLASSES, CHANNELS = 3, 8
CANVAS = (64, 96)  # height and width, which both images share
STRIDES = (4, 8, 16, 32)
# Of each image: its size, its objects, and boxes with the number of the object that each belongs to.
# Predicted boxes may leave the image and the canvas.
IMAGES = (
    ((60, 90), [(2.0, 3, 50, 58), (40, 10, 88, 40.5)],
     [((1.5, 2.25, 52.0, 57.0), 0), ((38.4, 11.3, 91.7, 39.0), 1), ((-7.5, -3.0, 44.6, 70.5), 0)]),
    ((64, 70), [(10.0, 4, 30, 20), (5, 30, 66, 62), (33.0, 2, 64, 28)],
     [((9.0, 4.4, 31.5, 22.0), 0), ((2.2, 28.0, 99.0, 63.3), 1)]),
)  # fmt: skip

# Standard deviations of the outputs of layers: logits have to spread around 0.
GAINS = {
    "coarse_head.prediction": 8.0, "point_head.predictor": 3.0, "mask_head.fc_logits": 8.0,
    "point_head.fc_logits": 3.0,
}  # fmt: skip


def levels() -> list[np.ndarray]:
    """float32 [2, h, w, 8], P2 to P5; smooth, as feature maps are."""
    maps = []
    for stride in STRIDES:
        shape = (len(IMAGES), CANVAS[0] // stride, CANVAS[1] // stride, CHANNELS)
        noise = seeded.seeded_projection(f"p{stride}", shape)
        mixed = noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2) + np.roll(noise, (1, 1), (1, 2))
        maps.append(np.float32(0.5) * mixed)
    return maps


def scenes() -> list[dict[str, np.ndarray]]:
    """The images' objects; see `seeded_scene`."""
    return [seeded.seeded_scene(*size, boxes) for size, boxes, _ in IMAGES]


def regions(image: int, library: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes float32 [R, 4], the objects int [R] that they belong to, and their labels.

    MMDetection's are clipped to the image, as its proposals are.
    """
    size, _, given = IMAGES[image]
    boxes, objects = zip(*given, strict=True)
    boxes = np.float32(boxes)
    if library == "mmdet":
        boxes = np.clip(boxes, 0, np.float32([size[1], size[0]] * 2))
    return boxes, np.array(objects), np.array(objects) % CLASSES


def seeded_point_rend_weight(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """A float32 array for a parameter of PointRend's mask head in either library; None for others."""
    if "mask_head." not in name and "point_head." not in name:
        return None
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) == 1:
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    gain = next((gain for part, gain in GAINS.items() if part in name), 2.0**0.5)
    value = rng.standard_normal(shape) * gain / np.prod(shape[1:]) ** 0.5
    return value.astype(np.float32)


def seeded_detector_weight(name: str, shape: tuple[int, ...], library: str) -> np.ndarray:
    """The same for a whole detector of Detectron2 or MMDetection, whose input is 0 to 255 minus the mean."""
    weight = seeded_point_rend_weight(name, shape)
    if weight is not None:
        # Feature maps of these networks are larger than the head's own, and its logits should not be.
        large = library == "detectron2" and re.search("reduce_spatial|point_head.fc1", name)
        return weight * np.float32(0.15) if large else weight
    if library == "detectron2":
        return seeded.seeded_detectron2_weight(name, shape)
    if name.endswith("fc_cls.bias"):
        return np.float32([1.5, -2.5, 1, 0])
    value = seeded.seeded_mmdet_weight(name, shape, 64.0)
    if re.search(r"fc_(cls|reg)\.weight$", name):  # features are positive and much alike
        return np.float32(2) * (value - value.mean(axis=1, keepdims=True))
    return value


class SeededUniform:
    """In the place of ``torch.rand``: the numbers of its first, second, ... call are known."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *shape: int) -> np.ndarray:
        self.calls += 1
        return np.random.RandomState(self.calls).uniform(size=shape).astype(np.float32)
