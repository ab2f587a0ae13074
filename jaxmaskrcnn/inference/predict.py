"""Runs the command ``predict``; its arguments are defined in ``cli/predict.py``."""

import argparse
import contextlib
import functools
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tqdm

from jaxmaskrcnn.checkpoints.directory import load_model
from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.data.inputs import find_files, output_names
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference import video
from jaxmaskrcnn.inference.camera import CameraReader
from jaxmaskrcnn.inference.categories import name_classes
from jaxmaskrcnn.inference.journal import Journal
from jaxmaskrcnn.inference.outputs import PATTERNS, Outputs, json_results, parse_formats
from jaxmaskrcnn.inference.predict_videos import predict_videos, progress_bar, report_failure
from jaxmaskrcnn.inference.stream import ordered_futures
from jaxmaskrcnn.inference.tables import parse_pixel_size
from jaxmaskrcnn.inference.thresholds import read_thresholds
from jaxmaskrcnn.inference.versions import check_versions, make_predictor
from jaxmaskrcnn.inference.web_images import fetch, is_web
from jaxmaskrcnn.stores.copies import with_addresses
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.tracking.following import Follower, TrackingOptions, read_points
from jaxmaskrcnn.utils import compilation_cache
from jaxmaskrcnn.visualize.comparison import Truth
from jaxmaskrcnn.visualize.fonts import load_font
from jaxmaskrcnn.visualize.style import Style

SAVED = "saved"  # --score_threshold, for the thresholds beside the model


def predict(arguments: argparse.Namespace, pixels: Callable[[PixelConfig], PixelConfig]) -> int:
    """Finds the inputs, runs the model on them and writes the results in the requested formats.

    Args:
        arguments: As ``add_arguments`` of ``cli/predict.py`` defines them.
        pixels: Changes the model's settings for reading pixels to those of the arguments.

    Returns:
        The exit code: 0, or 2 if an input could not be read.

    Raises:
        UserError: A path, the checkpoint or a setting is wrong, or nothing can be written.
    """
    with contextlib.ExitStack() as stack:
        arguments = argparse.Namespace(**vars(arguments))
        arguments.video = arguments.video or arguments.camera is not None
        addresses: dict[Path, str] = {}
        if any(map(is_web, arguments.inputs)):
            parse_formats(arguments.format)  # a wrong one is refused before anything is fetched
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxmaskrcnn-"))
            arguments.inputs, addresses = fetch(arguments.inputs, Path(folder))
        return _predict(arguments, pixels, addresses)


def _predict(
    arguments: argparse.Namespace,
    pixels: Callable[[PixelConfig], PixelConfig],
    addresses: Mapping[Path, str],
) -> int:
    """Does what `predict` says with files that are on this machine."""
    formats = parse_formats(arguments.format)
    _check(arguments, formats)
    tracking = _tracking(arguments)
    style = Style(
        not arguments.no_labels, not arguments.no_boxes, arguments.line_width, arguments.text_scale,
        arguments.font,
    ).check()  # fmt: skip
    load_font(style.font, 12)  # refuses a file that is no font before the model is read
    pixel_size = None if arguments.pixel_size is None else parse_pixel_size(arguments.pixel_size)
    if pixel_size is not None and "csv" not in formats:
        raise UserError("--pixel_size has no effect without tables; add 'csv' to --format.")
    paths = _find(arguments)
    camera = None if arguments.camera is None else CameraReader(arguments.camera)
    truth = Truth(Path(arguments.annotations)) if arguments.annotations else None
    for path in paths if truth else ():
        truth.find(path)
    threshold, thresholds = _score_threshold(arguments.score_threshold), None
    if threshold is None:
        thresholds = read_thresholds(arguments.checkpoint)
    compilation_cache.enable()
    model = load_model(arguments.checkpoint, arguments.model, bn_eps=arguments.bn_eps)
    model.config = model.config.replace({"input.pixels": pixels(model.config.input.pixels)})
    if "masks" in formats and model.config.mask is None:
        raise UserError("--format has 'masks', but the model has no mask head; leave it out.")
    if "panoptic" in formats and model.config.semantic is None:
        raise UserError("--format has 'panoptic', but the model has no semantic head; leave it out.")
    if truth is not None:
        own_ids = [category.id for category in model.categories]
        name_classes(model, truth.categories, arguments.annotations, listed=truth.listed)
        if thresholds is not None:  # by the ids that the model had when they were saved
            pairs = zip(model.categories, own_ids, strict=True)
            thresholds = {category.id: thresholds[own] for category, own in pairs if own in thresholds}
    if arguments.class_agnostic_nms:
        model.config = model.config.replace({"detections.nms_scope": "image"})
    classes = None if arguments.classes is None else [c for c in arguments.classes.split(",") if c.strip()]
    if tracking is not None and model.config.semantic is not None:
        raise UserError("--track follows objects, and the model is a panoptic one; leave --track out.")
    predictor = make_predictor(model, arguments, threshold, classes, thresholds)
    segments_drawn = "png" in formats and truth is None and not arguments.video
    if arguments.classes is not None and "panoptic" not in formats and not segments_drawn:
        _check_no_stuff(arguments.classes, model.config.known_stuff())
    outputs = Outputs(
        Path(arguments.output), formats, predictor.categories, arguments.colour_by, truth,
        arguments.polygon_tolerance, predictor.config.keypoints, predictor.config.known_stuff(), style,
    )  # fmt: skip

    def named(path: Path) -> str:
        return addresses.get(path) or with_addresses(str(path))

    predict_all = functools.partial(
        _predict_images, named=named, settings=_settings(arguments), resume=arguments.resume
    )
    if arguments.video:
        outputs.tracking = tracking
        predict_all = functools.partial(predict_videos, named=named, tracking=tracking, camera=camera)
    try:
        outputs.folder.mkdir(parents=True, exist_ok=True)
        with json_results(
            outputs, predictor.categories, video=arguments.video, pixel_size=pixel_size
        ) as results:
            failures = predict_all(paths, predictor, outputs, results)
    except OSError as error:
        path = error.filename or outputs.folder
        raise UserError(f"{path} cannot be written ({error.strerror}); give another --output.") from error
    found = _count(results.objects, "object")
    inputs = _count(results.images, "frame" if arguments.video else "image")
    print(f"{found} in {inputs}; {', '.join(formats)} in {outputs.folder}")
    return 2 if failures else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _check(arguments, formats) -> None:
    if not 0 <= arguments.polygon_tolerance < 100:
        raise UserError(f"--polygon_tolerance is {arguments.polygon_tolerance}; give 0 or a few pixels.")
    if arguments.polygon_tolerance and not {"labelme", "geojson"} & set(formats):
        raise UserError(
            "--polygon_tolerance has no effect without polygons; add 'labelme' or 'geojson' to --format."
        )
    if "png" not in formats:
        plain = {"no_labels": False, "no_boxes": False, "line_width": None, "text_scale": 1.0, "font": None}
        for name, value in plain.items():
            if getattr(arguments, name) != value:
                raise UserError(f"--{name} has no effect without pictures; add 'png' to --format.")
    check_versions(arguments)
    if arguments.video:
        if arguments.inputs or "png" in formats:
            video.require_reader()
        if arguments.annotations:
            raise UserError("--annotations is for images; leave it out with --video.")
        if arguments.resume:
            raise UserError("--resume is for images; leave it out with --video.")
        if "labelme" in formats:
            raise UserError("--format has 'labelme', which is for image files; leave it out with --video.")


def _find(arguments) -> list[Path]:
    if not arguments.inputs and arguments.camera is None:
        raise UserError("there is no INPUT; give images or folders, or --video=0 for a camera.")
    if arguments.video:
        return find_files(arguments.inputs, video.SUFFIXES, "video")
    paths = find_files(arguments.inputs, SUFFIXES)
    for path in paths:
        if path.suffix.lower() in video.SUFFIXES:
            raise UserError(f"{path} is a video; give --video, and images in another call.")
    return paths


def _tracking(arguments: argparse.Namespace) -> TrackingOptions | None:
    """How objects are followed; None if they are not."""
    if not arguments.track:
        for name in ("track_memory", "track_birth", "trail", "count_line", "count_region"):
            if getattr(arguments, name) not in (None, []):  # a 0 too
                raise UserError(f"--{name} has no effect without --track; give --track too.")
        return None
    if not arguments.video:
        raise UserError("--track follows objects over the frames of a video; give --video too.")
    points = {}
    for name, count, form in (("count_line", 4, "X0,Y0,X1,Y1"), ("count_region", None, "X,Y,X,Y,X,Y,...")):
        texts = getattr(arguments, name)
        try:
            points[name] = read_points(texts, count)
        except ValueError as error:
            raise UserError(f"--{name} is {str(error)!r}; give {form} in pixels of the video.") from None
    given = {"memory": arguments.track_memory, "birth": arguments.track_birth, "trail": arguments.trail}
    options = TrackingOptions(
        lines=points["count_line"], regions=points["count_region"],
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    if options.trail < 0:
        raise UserError(f"--trail is {options.trail}; give a number of frames, or 0 for none.")
    Follower(options)  # refuses what is out of range before the model is read
    return options


def _score_threshold(text: str) -> float | None:
    """The number of ``--score_threshold``; None for the thresholds that are saved with the model."""
    if text == SAVED:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise UserError(
            f"--score_threshold is {text}; give a probability from 0 to 1, or 'saved' for the thresholds of "
            "the model's classes."
        )
    return threshold


def _check_no_stuff(classes: str, stuff: Sequence[Category]) -> None:
    for name in map(str.strip, classes.split(",")):
        if any(name in (category.name, str(category.id)) for category in stuff):
            raise UserError(
                f"--classes has {name!r}, a class of stuff, which is not in what is written; add 'panoptic' "
                "to --format, or leave the class out."
            )


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the results of an image depend on, by the names of the arguments."""
    others = {"inputs", "output", "batch_size", "resume", "imports", "video", "camera"}
    return {name: value for name, value in sorted(vars(arguments).items()) if name not in others}


def _predict_images(
    paths: list[Path],
    predictor,
    outputs,
    results,
    *,
    named: Callable[[Path], str],
    settings: dict[str, Any],
    resume: bool,
) -> int:
    """Predicts images and writes the results; returns how many images could not be read."""
    patterns = [PATTERNS[name] for name in outputs.formats if name in PATTERNS]
    names = output_names(paths, outputs.folder, patterns)
    journal, complete = Journal(outputs.folder, settings, resume), False
    texts = list(map(named, paths))
    failures = 0
    try:
        before = {text for text, *_ in journal.finished}
        for text, image, entries in journal.finished:
            if text not in texts:
                raise UserError(
                    f"The interrupted run in {outputs.folder} has {text}, which is not among the inputs; "
                    "give the same inputs, or leave out --resume."
                )
            results.add_entries(image, entries)
        left = [i for i, text in enumerate(texts) if text not in before]
        with progress_bar(len(paths), "image", initial=len(before)) as bar:

            def failed(index: int, error: UserError) -> None:
                nonlocal failures
                failures += 1
                bar.update()
                report_failure(error)

            def write(prediction) -> tuple[str, dict[str, Any], dict[str, Any]]:
                place = left[prediction.index]
                entry = outputs.write(prediction.pixels, prediction.result, paths[place], names[place])
                side = outputs.drawn_side(prediction.pixels.shape[:2])
                if side and "picture" in entry:
                    tqdm.tqdm.write(
                        f"jaxmaskrcnn predict: {paths[place]} has {entry['width']} x {entry['height']} "
                        f"pixels, so that its picture is reduced to {side} on the long side.",
                        file=sys.stderr,
                    )
                return texts[place], {"file_name": texts[place], **entry}, prediction.result

            predictions = predictor.stream([paths[i] for i in left], masks="rle", on_error=failed)
            # Pictures are drawn and compressed in threads too, a few at a time.
            for future in ordered_futures(write, predictions):
                text, image, result = future.result()
                journal.add(text, *results.add(image, result))
                bar.update()
        complete = True
    finally:
        journal.close(complete)
    return failures
