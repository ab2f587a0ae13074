"""Runs the checks of training, collects every problem, and computes figures of the usable objects."""

import collections
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tqdm

from jaxmaskrcnn.config import DEFAULT_PIXELS, DataConfig, ModelConfig, PixelConfig
from jaxmaskrcnn.data.coco.annotations import Annotations, parse_annotations
from jaxmaskrcnn.data.coco.crowd import count_classes, crowd_statements, nothing_to_learn
from jaxmaskrcnn.data.coco.entries import Part
from jaxmaskrcnn.data.coco.image_files import readable_images
from jaxmaskrcnn.data.coco.load import load_texts
from jaxmaskrcnn.data.coco.packing import freed, no_collection, set_aside
from jaxmaskrcnn.data.coco.problems import AllProblems, Problem
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.coco.skeleton import has_keypoints
from jaxmaskrcnn.data.inspection.advice import anchor_fit, hints
from jaxmaskrcnn.data.inspection.keypoints import keypoint_statistics, outside_points
from jaxmaskrcnn.data.inspection.lvis import contradictions, lvis_statistics
from jaxmaskrcnn.data.inspection.statistics import make_table, statistics
from jaxmaskrcnn.data.inspection.stuff import stuff_statistics
from jaxmaskrcnn.data.inspection.suspicions import dark_pictures, same_content, suspicions
from jaxmaskrcnn.utils.files import check_image_folder
from jaxmaskrcnn.utils.processes import process_map


class Inspection(NamedTuple):
    """The result of inspecting a data set.

    Attributes:
        annotations: The usable images and objects, without their polygons; an image whose file is missing is
            among them.
        problems: Faults that training refuses.
        suspicions: Oddities that training accepts, but that are probably mistakes.
        unreadable: Ids of the images whose file is missing or cannot be used.
        summary: Counts and figures that json can hold; see `statistics` and `anchor_fit`.
        hints: Sentences about settings that the figures suggest.
        statements: Sentences about classes that are mostly crowd regions, without a full stop.
    """

    annotations: Annotations
    problems: list[Problem]
    suspicions: list[Problem]
    unreadable: frozenset[int]
    summary: dict[str, Any]
    hints: list[str]
    statements: list[str]


def inspect_annotations(
    path: Path,
    images_dir: Path | None = None,
    *,
    masks: bool = True,
    decode: bool = True,
    model: ModelConfig | None = None,
    data: DataConfig | None = None,
    reading: Reading | None = None,
    progress: bool = False,
    pixels: PixelConfig = DEFAULT_PIXELS,
    processes: int = 1,
) -> Inspection:
    """Checks an annotation file and its images as training does, and counts what they hold.

    Args:
        path: COCO-format json.
        images_dir: Folder that its file names are relative to; with None only the json is checked.
        masks: Whether every object needs a segmentation.
        decode: Whether every image is decoded, or only its size read.
        model: Gives the anchors and limits that the hints are about; None takes the defaults.
        data: Gives the training size that they are about; None takes the defaults.
        reading: What crowd regions are, and whether all objects get one class.
        progress: Whether to show progress bars.
        pixels: Which page of an image file is read, and how its values become uint8.
        processes: How many processes draw polygons and read headers, if it is more than this one; a script
            that gives more has to be guarded by ``if __name__ == "__main__"``.

    Returns:
        The findings. Problems are listed and not raised.

    Raises:
        UserError: The json is missing or is not COCO json, or there is no such folder.

    Example:
        >>> from jaxmaskrcnn.data import write_shapes
        >>> annotations, images = write_shapes("data", 4, 64, seed=0)
        >>> found = inspect_annotations(annotations, images)
        >>> found.problems, found.summary["images"]
        ([], 4)
    """
    model, data = model or ModelConfig(), data or DataConfig()
    if images_dir is not None:
        check_image_folder(images_dir)
    problems = AllProblems()
    with contextlib.ExitStack() as stack:
        mapped = stack.enter_context(process_map(processes))
        with no_collection():
            content = load_texts(path)
            annotations = parse_annotations(
                content, path, images_dir, problems, masks=masks, keypoints=has_keypoints(content),
                reading=reading, consume=lambda entries: _consume(entries, progress), mapped=mapped or map,
                outlines=True,
            )  # fmt: skip
            table = make_table(annotations)
            found = suspicions(annotations, table, path) + contradictions(annotations, path)
            found += outside_points(annotations, path)
            stack.enter_context(set_aside())
        missing = {problem.image_id for problem in problems.found if problem.reason == "missing image"}
        if images_dir is not None:
            present = [image for image in annotations.images if image.id not in missing]
            bar = tqdm.tqdm(present, "images", unit="image", disable=not progress or not present)
            with bar:
                readable = readable_images(
                    present, path, images_dir, problems, decode=decode, pixels=pixels, mapped=mapped
                )
                readable = dark_pictures(_counted(readable, bar), path, pixels, found)
                found += same_content(readable, path)
    unreadable = missing | {p.image_id for p in problems.found if p.reason in ("image size", "corrupt image")}
    usable = [image for image in annotations.images if image.id not in unreadable]
    counts = count_classes(annotations.categories, usable)
    if annotations.categories:
        listed, left_out = len(annotations.images), {**annotations.left_out, **problems.skipped}
        nothing = nothing_to_learn(counts, usable, str(path), left_out, masks=masks, listed=listed)
        if nothing:
            problems.add("nothing to learn", nothing)
    summary = {
        "annotations": str(path),
        "image_folder": None if images_dir is None else str(images_dir),
        **statistics(annotations, table),
        **keypoint_statistics(annotations),
        **stuff_statistics(annotations),
        **lvis_statistics(annotations),
        "training_size": anchor_fit(table, model, data),
        "problem_counts": dict(problems.skipped),
        "suspicion_counts": dict(collections.Counter(entry.reason for entry in found)),
    }
    return Inspection(
        annotations, problems.found, found, frozenset(unreadable), summary, hints(summary, model),
        [f"{path}: {sentence}" for sentence in crowd_statements(counts)],
    )  # fmt: skip


def _consume(entries: list, progress: bool) -> Iterator:
    """Yields the entries, or the parts of `Entries`, and frees each once it is used."""
    counts = [len(entry.ends) if type(entry) is Part else 1 for entry in entries]
    bar = tqdm.tqdm(total=sum(counts), desc="annotations", disable=not progress)
    with bar:
        for entry, count in zip(freed(entries), counts, strict=True):
            yield entry
            bar.update(count)


def _counted(pairs: Iterator, bar: tqdm.tqdm) -> Iterator:
    for pair in pairs:
        yield pair
        bar.update()
