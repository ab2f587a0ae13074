"""Generated clips of moving shapes: what is seen of each, and who is who."""

from typing import NamedTuple

import numpy as np
from data_helpers import encode

from jaxmaskrcnn.tracking.measures import Frame, frame_of

HEIGHT, WIDTH = 120, 160


class Mover(NamedTuple):
    """A shape that moves on a straight line with a slight wave.

    Attributes:
        start: x and y of its centre in the first frame.
        speed: x and y, pixels a frame.
        size: Height and width.
        label: Its class.
        round: Whether it is an ellipse and not a rectangle.
        wave: How far it sways to a side.
    """

    start: tuple[float, float]
    speed: tuple[float, float]
    size: tuple[float, float] = (20, 20)
    label: int = 1
    round: bool = True
    wave: float = 0.0


def mask_of(mover, frame):
    x, y = np.array(mover.start) + frame * np.array(mover.speed)
    y += mover.wave * np.sin(frame / 3)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    dy, dx = (rows - y) / (mover.size[0] / 2), (columns - x) / (mover.size[1] / 2)
    return dx**2 + dy**2 <= 1 if mover.round else np.maximum(abs(dx), abs(dy)) <= 1


def clip(movers, frames, *, wall=None, lost=0.0, jitter=0, least=12, seed=0):
    """The frames of a clip.

    Args:
        movers: The first one is in front of the others.
        frames: Number of frames.
        wall: x0 and x1 of a wall in front of all of them.
        lost: Share of detections that are left out.
        jitter: Pixels by which the masks and boxes of detections are moved at random.
        least: Pixels that have to be seen of an object.
        seed: Of what is random.

    Returns:
        For each frame a result as of ``Predictor`` in random order, and the true `Frame`.
    """
    rng = np.random.default_rng(seed)
    results, truth = [], []
    for frame in range(frames):
        free = np.ones((HEIGHT, WIDTH), bool)
        if wall is not None:
            free[:, wall[0] : wall[1]] = False
        seen = []
        for number, mover in enumerate(movers, 1):
            mask = mask_of(mover, frame)
            visible, free = mask & free, free & ~mask
            if visible.sum() >= least:
                seen.append((number, mover.label, visible))
        truth.append(
            frame_of(result_of([(label, mask) for _, label, mask in seen], rng), [n for n, *_ in seen])
        )
        found = [(label, moved(mask, rng, jitter)) for _, label, mask in seen if rng.random() >= lost]
        order = rng.permutation(len(found))
        results.append(result_of([found[i] for i in order], rng))
    return results, truth


def moved(mask, rng, jitter):
    dy, dx = rng.integers(-jitter, jitter + 1, 2)
    around = np.pad(mask, jitter)  # nothing comes in again at the other side
    other = around[jitter - dy : jitter - dy + HEIGHT, jitter - dx : jitter - dx + WIDTH]
    return other if other.any() else mask


def result_of(objects, rng):
    boxes, masks = [], []
    for _, mask in objects:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        masks.append(encode(mask))
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array([label for label, _ in objects], int),
        "scores": rng.uniform(0.7, 1, len(objects)),
        "masks": masks,
    }


def followed(results, tracker):
    """The `Frame` of each result, with the identities that a tracker gives."""
    return [frame_of(result, tracker(result, (HEIGHT, WIDTH))) for result in results]


def crowd(count, seed, speed=2.0, size=(10, 18)):
    """Movers at random places in random directions."""
    rng = np.random.default_rng(seed)
    return [
        Mover(
            tuple(rng.uniform((10, 10), (WIDTH - 10, HEIGHT - 10))),
            tuple(rng.uniform(-speed, speed, 2)),
            tuple(rng.uniform(*size, 2)),
            int(rng.integers(1, 3)),
            bool(rng.random() < 0.5),
        )
        for _ in range(count)
    ]


def row(count, speeds, *, frames=40, **options):
    """Movers one above the other, each at another speed."""
    movers = [
        Mover((10 + 2 * i, 14 + 24 * i), (speeds[0] + i * speeds[1], 0), (18, 18)) for i in range(count)
    ]
    return {"movers": movers, "frames": frames, **options}


CROSSING = [Mover((20, 60), (3, 0.3)), Mover((140, 66), (-3, -0.2)), Mover((80, 10), (0.2, 2.4))]
TWO_CLASSES = [Mover((20, 60), (3, 0)), Mover((140, 60), (-3, 0), label=2, round=False)]
FAST = [Mover((8, 15 + 30 * i), (9.0 + i, 0), (16, 12), wave=2) for i in range(4)]
PASSING = [Mover((-10 - 45 * i, 15 + 30 * (i % 4)), (4, 0)) for i in range(8)]
HIDDEN = [Mover((15, 20 + 35 * i), (3 + 0.7 * i, 0), wave=1) for i in range(3)]

# Of each clip what makes it, and whether no two masks ever touch, so that no identity may change.
CLIPS: dict[str, tuple[dict, bool]] = {
    "apart": (row(5, (2, 0.4)), True),
    "apart and fast": ({"movers": FAST, "frames": 15}, True),
    "entering and leaving": ({"movers": PASSING, "frames": 110}, True),
    "a quarter of the detections lost": (row(5, (2, 0.4), lost=0.25, jitter=1), True),
    "crossing": ({"movers": CROSSING, "frames": 40}, False),
    "crossing, two classes": ({"movers": TWO_CLASSES, "frames": 40}, False),
    "behind a wall": ({"movers": HIDDEN, "frames": 45, "wall": (60, 100)}, False),
    "crowd of 12": ({"movers": crowd(12, 5), "frames": 40, "jitter": 1, "lost": 0.05}, False),
    "crowd of 25": ({"movers": crowd(25, 6), "frames": 40, "jitter": 1, "lost": 0.05}, False),
}


def make(name: str) -> tuple[list[dict], list[Frame]]:
    """A clip of the table: results and truth."""
    options = dict(CLIPS[name][0])
    return clip(options.pop("movers"), options.pop("frames"), **options)
