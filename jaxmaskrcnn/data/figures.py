"""A generated data set: figures of limbs with masks and keypoints.

It lets the way of keypoints be tried without a download. Figures are seen from the front, so their left hand
is on the right of the picture, and a mirrored figure is one whose left and right are exchanged, as with
people.

Shape legend: S height and width of an image in pixels, G figures, K keypoints.
"""

import json
import os
from pathlib import Path

import numpy as np

from jaxmaskrcnn.data.generated import mask_annotation, painted, save_image, visible_parts, write_once

POINTS = (
    "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_hand", "right_hand",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_foot", "right_foot",
)  # fmt: skip
# Lines between keypoints; the figure's own limbs.
SKELETON = (
    (1, 2), (1, 3), (3, 5), (2, 4), (4, 6), (1, 7), (2, 8), (7, 8), (7, 9), (9, 11), (8, 10), (10, 12),
    (0, 1), (0, 2),
)  # fmt: skip
_VERSION = 3  # part of the folder's name; goes up when the same arguments give other images
_MOST = 2  # figures of an image
_HEIGHTS = (80 / 128, 116 / 128)  # smallest and largest, as shares of the image's side
_MIN_VISIBLE = 0.7  # share of a figure that others and the border leave visible
_THICKNESS = 0.07  # half the width of a limb, as a share of the height
_SEEN, _HIDDEN = 2, 1  # COCO's visibilities
# Of the middle of the shoulders, in units of the height: half the width of shoulders and hips, and places.
_SHOULDERS, _HIPS, _TORSO, _HEAD = 0.11, 0.075, 0.30, -0.11
_ARM, _LEG = 0.17, 0.23  # length of each half


def write_figures(directory: str | os.PathLike, num_images: int, size: int, seed: int) -> tuple[Path, Path]:
    """Writes a set of generated images of figures with COCO-format annotations, once.

    One or two figures per image, of varied size, pose, colour and rotation. A keypoint that another
    figure covers is annotated as hidden (1), one outside of the image is not annotated.

    Args:
        directory: Where the set's own folder is created; its name holds the arguments.
        num_images: Number of images.
        size: S, in pixels.
        seed: Seed of the whole set; other seeds give other images.

    Returns:
        The paths of the json and of the image folder. A complete set that already exists is used
        again.

    Raises:
        UserError: There are no images to write, or they are too small for objects.

    Example:
        >>> from jaxmaskrcnn.data import prepare
        >>> annotations, images = write_figures("data", 4, 64, seed=0)
        >>> prepare(annotations, images, "cache", keypoints=True).skeleton.points[0]
        'head'
    """
    name = f"figures-v{_VERSION}-{num_images}x{size}px-seed{seed}"
    return write_once(
        directory, name, num_images, size, lambda folder: _write(folder, num_images, size, seed)
    )


def _write(directory: Path, num_images: int, size: int, seed: int) -> None:
    (directory / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(num_images):
        # A generator of its own per image: the first images of a larger set are the same.
        image, masks, keypoints = draw_figures(np.random.default_rng([seed, i]), size)
        name = save_image(directory / "images", i, image)
        images.append({"id": i + 1, "file_name": name, "height": size, "width": size})
        for mask, points in zip(masks, keypoints, strict=True):
            annotations.append({
                **mask_annotation(len(annotations) + 1, i + 1, mask, 0),
                "keypoints": points.ravel().tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            })  # fmt: skip
    lines = [[first + 1, last + 1] for first, last in SKELETON]
    category = {"id": 1, "name": "figure", "keypoints": list(POINTS), "skeleton": lines}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (directory / "annotations.json").write_text(json.dumps(content))


def draw_figures(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws one scene.

    Args:
        rng: Random generator for everything in the scene.
        size: S, in pixels.

    Returns:
        The image, uint8 RGB [S, S, 3]; masks of the visible parts, bool [G, S, S]; keypoints, float64
        [G, K, 3], x and y in pixels to a tenth and COCO's visibility.
    """
    outlines, points, areas = np.zeros((0, size, size), bool), [], []
    target_count = rng.integers(1, _MOST + 1)
    # A figure that would hide too much of another is not placed, so every drawn figure is annotated.
    for _ in range(10 * target_count):
        if len(points) == target_count:
            break
        height = size * rng.uniform(*_HEIGHTS)
        pose = _pose(rng) * height + rng.uniform(0.25 * size, 0.65 * size, 2)
        outline, area = _outline(pose, height, size)
        tried = np.concatenate([outlines, outline[None]])
        if (visible_parts(tried).sum(axis=(1, 2)) >= _MIN_VISIBLE * np.array([*areas, area])).all():
            outlines, points, areas = tried, [*points, pose], [*areas, area]
    if not points:  # chance placed every figure across the border
        points = [_pose(rng) * 0.5 * size + [0.5 * size, 0.3 * size]]
        outlines = _outline(points[0], 0.5 * size, size)[0][None]
    visible = visible_parts(outlines)
    keypoints = np.array([_annotated(p, i, outlines) for i, p in enumerate(points)])
    return painted(rng, visible), visible, keypoints


def _pose(rng: np.random.Generator) -> np.ndarray:
    """Keypoints of a figure of height 1, [K, 2], around the middle of its shoulders."""

    def limb(start, angle, bend, length):
        """Two halves: a joint and an end. An angle of 0 points down, a positive one to the right."""
        steps = [length * np.array([np.sin(a), np.cos(a)]) for a in (angle, angle + bend)]
        return start + steps[0], start + steps[0] + steps[1]

    points = {"head": np.array([0.0, _HEAD])}
    for side, sign in (("left", 1), ("right", -1)):  # the figure's left is on the right of the picture
        shoulder, hip = np.array([sign * _SHOULDERS, 0.0]), np.array([sign * _HIPS, _TORSO])
        # Arms hang, are stretched out or raised, and stay on their own side.
        elbow, hand = limb(shoulder, sign * rng.uniform(0.15, 2.6), sign * rng.uniform(-0.5, 0.7), _ARM)
        knee, foot = limb(hip, sign * rng.uniform(0.0, 0.5), sign * rng.uniform(-0.35, 0.15), _LEG)
        places = (("shoulder", shoulder), ("elbow", elbow), ("hand", hand), ("hip", hip), ("knee", knee),
                  ("foot", foot))  # fmt: skip
        points |= {f"{side}_{name}": place for name, place in places}
    turn = rng.uniform(-0.2, 0.2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.stack([points[name] for name in POINTS]) @ rotation.T


def _outline(points: np.ndarray, height: float, size: int) -> tuple[np.ndarray, int]:
    """The pixels of a figure near to its skeleton, its head or its middle.

    Args:
        points: [K, 2], its keypoints.
        height: Its height in pixels.
        size: S.

    Returns:
        bool [S, S], and the number of all pixels, also those outside of the image.
    """
    radius = _THICKNESS * height
    low = np.floor(points.min(0) - 2 * radius).astype(int)
    width, rows = np.ceil(points.max(0) + 2 * radius).astype(int) - low
    y, x = np.mgrid[:rows, :width] + 0.5
    x, y = x + low[0], y + low[1]
    limbs = [(points[first], points[last]) for first, last in SKELETON[:-2]]
    limbs += [(points[1], points[8]), (points[2], points[7])]  # the diagonals, which fill the body
    limbs.append((points[1:3].mean(0), points[7:9].mean(0)))
    inside = (x - points[0, 0]) ** 2 + (y - points[0, 1]) ** 2 <= (1.9 * radius) ** 2
    for start, end in limbs:
        way = end - start
        share = np.clip(((x - start[0]) * way[0] + (y - start[1]) * way[1]) / (way @ way), 0, 1)
        distance = (x - start[0] - share * way[0]) ** 2 + (y - start[1] - share * way[1]) ** 2
        inside |= distance <= radius**2
    canvas = np.zeros((size, size), bool)
    first, last = np.clip(low, 0, size), np.clip(low + [width, rows], 0, size)
    part = inside[first[1] - low[1] : last[1] - low[1], first[0] - low[0] : last[0] - low[0]]
    canvas[first[1] : last[1], first[0] : last[0]] = part
    return canvas, int(inside.sum())


def _annotated(points: np.ndarray, number: int, outlines: np.ndarray) -> np.ndarray:
    """COCO's keypoints of a figure, [K, 3]."""
    size = outlines.shape[-1]
    annotated = np.zeros((len(points), 3))
    for row, (x, y) in zip(annotated, points.round(1), strict=True):
        if 0 <= x < size and 0 <= y < size:
            covered = outlines[number + 1 :, int(y), int(x)].any()
            row[:] = x, y, _HIDDEN if covered else _SEEN
    return annotated
