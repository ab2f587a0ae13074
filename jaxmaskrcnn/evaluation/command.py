"""Runs the command ``evaluate``; its arguments are defined in ``cli/evaluate.py``."""

import argparse
import contextlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from jaxmaskrcnn.checkpoints.directory import load_model
from jaxmaskrcnn.config import DataConfig, PixelConfig
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.records.prepare import prepare
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.benchmark import benchmark
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.evaluation.evaluate import Evaluator
from jaxmaskrcnn.evaluation.load import read_files
from jaxmaskrcnn.evaluation.own_rules import Limits, best_thresholds, limited_metrics, metrics_at_score
from jaxmaskrcnn.evaluation.own_tables import (
    format_at_score,
    format_benchmark,
    format_limited,
    format_thresholds,
)
from jaxmaskrcnn.evaluation.predicted import predicted_results
from jaxmaskrcnn.evaluation.tables import format_metrics
from jaxmaskrcnn.inference.thresholds import own_directory, save_thresholds
from jaxmaskrcnn.inference.versions import check_versions, make_predictor
from jaxmaskrcnn.parallel.processes import initialize, is_first
from jaxmaskrcnn.utils import compilation_cache
from jaxmaskrcnn.utils.files import check_image_folder, complete_file, dump_json
from jaxmaskrcnn.weights.locate import locate

_TABLES = {
    "at_score": format_at_score,
    "thresholds": format_thresholds,
    "benchmark": format_benchmark,
}


def evaluate_model(
    arguments: argparse.Namespace,
    reading: Callable[..., Reading],
    pixels: Callable[[PixelConfig], PixelConfig],
) -> None:
    """Detects in annotated images, scores the detections, prints and writes the results.

    Args:
        arguments: As ``add_arguments`` of ``cli/evaluate.py`` defines them.
        reading: Makes the arguments' way of reading annotations, of the names of a model's stuff.
        pixels: Changes the model's settings for reading pixels to those of the arguments.

    Raises:
        UserError: The checkpoint, the annotations or a setting is wrong.
    """
    limits = _limits(arguments)
    check_versions(arguments)
    compilation_cache.enable()
    # Fetched before the processes join and wait for each other.
    located = locate(arguments.checkpoint, detector=True)
    directory = own_directory(located.path) if arguments.save_thresholds else None
    initialize(arguments.coordinator_address, arguments.num_processes, arguments.process_id)
    if not is_first():
        logging.getLogger("jaxmaskrcnn").setLevel(logging.WARNING)
    model = load_model(located.path, arguments.model or located.preset, bn_eps=arguments.bn_eps)
    changes: dict[str, Any] = {"input.pixels": pixels(model.config.input.pixels)}
    if arguments.class_agnostic_nms:
        changes["detections.nms_scope"] = "image"
    per_image = None
    if limits is not None and limits.max_detections is not None:
        if model.config.semantic is not None:
            raise UserError("--max_detections would change a panoptic model's segments; leave it out.")
        per_image = model.config.detections.per_image
        changes["detections.per_image"] = max(per_image, limits.max_detections)
    model.config = model.config.replace(changes)
    with tempfile.TemporaryDirectory(prefix="jaxmaskrcnn-", ignore_cleanup_errors=True) as temporary:
        source = prepare(
            arguments.annotations,
            arguments.images,
            arguments.cache_dir or temporary,
            arguments.on_error,
            masks=False,
            keypoints=model.config.keypoints is not None,
            reading=reading(model.config.semantic.stuff if model.config.semantic is not None else ()),
            pixels=model.config.input.pixels,
        )
        segments = None
        if arguments.output and model.config.semantic is not None and source.stuff is not None:
            segments = Path(arguments.output) / "segments.json"
            segments.unlink(missing_ok=True)  # of an earlier evaluation, whose pictures are replaced
        graphdef, state = nnx.split(model)
        evaluator = Evaluator(
            model.config, graphdef, source,
            DataConfig(eval_batch_size=arguments.batch_size, eval_protocol=arguments.protocol),
            progress=is_first(), segments=segments, classes=_listed(arguments.classes),
            scored_per_image=per_image,
        )  # fmt: skip
        if arguments.tta or arguments.tile is not None:
            predictor = make_predictor(model, arguments, None)
            detections = predicted_results(predictor, source, evaluator.categories)
            metrics = evaluator.score(detections)
        else:
            metrics, detections = evaluator.run(state)
        if not is_first():
            return
        own = _own_numbers(arguments, evaluator.ground_truth, detections, evaluator.iou_types, limits)
        if directory is not None:
            rows = own["thresholds"]["classes"]
            classes = {  # also those that were not scored, which have the threshold of all classes
                own_c.id: rows.get(c.id if c else None, {"name": own_c.name, "threshold": None})
                for c, own_c in zip(evaluator.categories, model.categories, strict=True)
            }
            path = save_thresholds(
                {"annotations": Path(arguments.annotations).name, **own["thresholds"], "classes": classes},
                directory,
            )
            print(f"The thresholds of the classes are in {path}")
        if arguments.benchmark is not None:
            own["benchmark"] = benchmark(
                model, source, images=arguments.benchmark, batch_size=arguments.batch_size
            )
    _finish(arguments, metrics, own, detections, segments)


def evaluate_predictions(
    arguments: argparse.Namespace,
    reading: Callable[..., Reading],
    pixels: Callable[[PixelConfig], PixelConfig],
) -> None:
    """Scores detections that are there, prints and writes the results.

    Args:
        arguments: As for `evaluate_model`.
        reading: As for `evaluate_model`.
        pixels: As for `evaluate_model`.

    Raises:
        UserError: A file or a setting is wrong.
    """
    limits = _limits(arguments)
    check_image_folder(Path(arguments.images), "check --images")
    detections, truth = read_files(
        arguments.predictions, arguments.annotations, Path(arguments.images), reading(),
        pixels(PixelConfig(intensity="percentile")), arguments.protocol,
    )  # fmt: skip
    classes = _listed(arguments.classes)
    if classes is not None:
        truth = truth.of_classes(_ids(truth, classes, arguments.annotations))
        ids = {category.id for category in truth.categories}
        detections = [entry for entry in detections if entry["category_id"] in ids]
    iou_types: tuple[str, ...] = ("bbox",)
    if truth.has_masks and all("segmentation" in entry for entry in detections):
        iou_types += ("segm",)
    if truth.skeleton is not None and all("keypoints" in entry for entry in detections):
        iou_types += ("keypoints",)
    metrics = truth.score(detections, iou_types)
    own = _own_numbers(arguments, truth, detections, iou_types, limits)
    _finish(arguments, metrics, own, detections, None)


def _ids(truth: GroundTruth, chosen: list[str], path: str) -> set[int]:
    """The ids of the classes that are chosen; "shared" makes no sense, as detections have the json's."""
    ids = set()
    for word in chosen:
        found = [c.id for c in truth.categories if word == str(c.id)] or [
            c.id for c in truth.categories if word.lower() == c.name.lower()
        ]
        if not found:
            names = ", ".join(category.name for category in truth.categories[:20])
            raise UserError(f"{path} has no class {word!r}; its classes are {names}.")
        ids |= set(found)
    return ids


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _limits(arguments: argparse.Namespace) -> Limits | None:
    """The limits of one's own that the arguments give; None if they give none."""
    if arguments.max_detections is None and arguments.areas is None:
        return None
    areas = None
    if arguments.areas is not None:
        try:
            low, high = map(float, arguments.areas.split(","))
        except ValueError:
            low = high = -1.0
        if not 0 < low < high < 1e10:
            raise UserError(
                f"--areas is {arguments.areas!r}; give two numbers of square pixels, the smaller one first, "
                "as in 1024,9216 (COCO's)."
            )
        areas = (low, high)
    return Limits(arguments.max_detections, areas)


def _own_numbers(
    arguments: argparse.Namespace,
    truth: GroundTruth,
    detections: list[dict],
    iou_types: tuple[str, ...],
    limits: Limits | None,
) -> dict[str, Any]:
    """The numbers beside those of the protocol that the arguments ask for, by their names."""
    types = [kind for kind in iou_types if kind in ("bbox", "segm")]
    numbers: dict[str, Any] = {}
    if limits is not None:
        numbers["own_limits"] = limited_metrics(truth, detections, types, limits)
    if arguments.at_score is not None:
        numbers["at_score"] = metrics_at_score(truth, detections, types, arguments.at_score)
    if arguments.thresholds or arguments.save_thresholds:
        numbers["thresholds"] = best_thresholds(truth, detections, types[-1])
    return numbers


def _finish(arguments, metrics, own, detections, segments: Path | None) -> None:
    """Prints the tables and writes the files."""
    print(format_metrics(metrics))
    if "own_limits" in own:
        print(format_limited(own["own_limits"], metrics))
    for name, make in _TABLES.items():
        if name in own:
            print(make(own[name]))
    if not arguments.output:
        return
    output = Path(arguments.output)
    with contextlib.ExitStack() as files:  # both files or none
        for name, content, indent in (
            ("detections.json", detections, None),
            ("metrics.json", metrics | own, 1),
        ):
            file = files.enter_context(complete_file(output / name))
            dump_json(file, content, indent=indent)
    written = "metrics.json and detections.json"
    if segments is not None:
        written = "metrics.json, detections.json, segments.json and its pictures"
    print(f"{written} are in {output}")
