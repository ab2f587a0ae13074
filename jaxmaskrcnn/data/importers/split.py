"""Divides an imported data set into parts, by image."""

import random
import re
from collections.abc import Iterable, Mapping, Sequence

from jaxmaskrcnn.errors import UserError

PARTS = ("train", "val", "test")
NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip


def fractions_of(text: str | None) -> list[float] | None:
    """The fractions that ``--split`` gives, or None where it names a list or part.

    Args:
        text: Such as ``0.8,0.2`` or ``train``.

    Raises:
        UserError: There are numbers that do not divide a whole into two or three parts.

    Example:
        >>> fractions_of("0.8,0.2"), fractions_of("train")
        ([0.8, 0.2], None)
    """
    try:
        shares = [float(word) for word in (text or "").split(",")]
    except ValueError:
        return None
    if (
        not 2 <= len(shares) <= len(PARTS)
        or not all(0 < s < 1 for s in shares)
        or abs(sum(shares) - 1) > 1e-6
    ):
        raise UserError(
            f"--split is {text}; give two or three fractions (train, val, test) that add up to 1, such as "
            "0.8,0.2."
        )
    return shares


def part_of(name: str) -> str:
    """The part that a subset or folder of some name is; its name as a file name can have it.

    Example:
        >>> part_of("Valid"), part_of("train"), part_of("day 1/rain")
        ('val', 'train', 'day_1_rain')
    """
    return NAMES.get(name.strip().lower()) or re.sub(r"[^\w.-]+", "_", name.strip()).strip("._")


def chosen_part(split: str | None, parts: Iterable[str | None], source: object) -> str | None:
    """The part of a source that ``--split`` names, or None for all.

    Args:
        split: The option.
        parts: The parts that there are.
        source: The source, for messages.

    Raises:
        UserError: There is no such part.
    """
    if split is None:
        return None
    there = list(dict.fromkeys(part for part in parts if part))
    wanted = part_of(split)
    if wanted not in there:
        raise UserError(
            f"{source} has no part {split!r}; --split is one of those there are "
            f"({', '.join(there[:20]) or 'none'}), or fractions such as 0.8,0.2."
        )
    return wanted


def divide(content: dict[str, list], fractions: Sequence[float], seed: int) -> dict[str, dict[str, list]]:
    """Divides the images of a COCO json at random, the same way for the same images and seed.

    Args:
        content: The json.
        fractions: Share of the images of each part.
        seed: Another number gives other parts.

    Returns:
        A json for ``train``, ``val`` and, with three fractions, ``test``. Each has all categories.

    Raises:
        UserError: A part would have no image, or the first one no object.
    """
    names = sorted(image["file_name"] for image in content["images"])
    random.Random(seed).shuffle(names)
    ends = [round(sum(fractions[: i + 1]) * len(names)) for i in range(len(fractions))]
    parts = {}
    for part, start, end in zip(PARTS, [0, *ends], ends, strict=False):
        if start == end:
            raise UserError(
                f"--split leaves no image for {part!r}, because there are {len(names)}; give other fractions."
            )
        parts |= dict.fromkeys(names[start:end], part)
    return by_part(content, parts)


def by_part(content: dict[str, list], parts: Mapping[str, str]) -> dict[str, dict[str, list]]:
    """Divides a COCO json by the part that each file name belongs to; the ids stay as they are."""
    ids: dict[str, set[int]] = {part: set() for part in dict.fromkeys(parts.values())}
    for image in content["images"]:
        ids[parts[image["file_name"]]].add(image["id"])
    divided = {
        part: {
            "images": [image for image in content["images"] if image["id"] in kept],
            "annotations": [item for item in content["annotations"] if item["image_id"] in kept],
            "categories": content["categories"],
        }
        for part, kept in ids.items()
    }
    if "train" in divided and all(item["iscrowd"] for item in divided["train"]["annotations"]):
        raise UserError(
            "The part 'train' has no objects to learn; divide the images in another way with --split and "
            "--split_seed, or correct its annotations."
        )
    return divided
