"""Predicts the frames of videos and writes what was found in them."""

import collections
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import tqdm

from jaxmaskrcnn.data.inputs import output_names
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference import video
from jaxmaskrcnn.inference.camera import CameraReader
from jaxmaskrcnn.inference.outputs import JsonResults, Outputs
from jaxmaskrcnn.inference.stream import StreamingPredictor, ordered_futures
from jaxmaskrcnn.tracking.following import Follower, TrackingOptions
from jaxmaskrcnn.visualize.colours import ColourTracker
from jaxmaskrcnn.visualize.panoptic import thing_boxes

_FRAME = "{}_{:06d}"  # name of a frame's files


def predict_videos(
    paths: list[Path],
    predictor: StreamingPredictor,
    outputs: Outputs,
    results: JsonResults,
    named: Callable[[Path], str] = str,
    tracking: TrackingOptions | None = None,
    camera: CameraReader | None = None,
) -> int:
    """Predicts videos frame by frame and writes the results.

    Args:
        paths: The videos.
        predictor: Detects objects in their frames.
        outputs: Gives the folder and the formats.
        results: Gets an entry for every frame.
        named: The name of a video in the results.
        tracking: How objects are followed; None does not follow them.
        camera: A camera, which is predicted after the videos, until Ctrl-C.

    Returns:
        How many videos could not be read; a sentence about each is printed on stderr.
    """
    readers: list[Callable[[], video.VideoReader | CameraReader]]
    readers = [functools.partial(video.VideoReader, path) for path in paths]
    texts = list(map(named, paths))
    if camera is not None:
        paths, texts, readers = [*paths, Path("camera")], [*texts, "camera"], [*readers, lambda: camera]
    names = output_names(paths, outputs.folder, ["{}.mp4"])
    failures = 0
    for path, name, text, opened in zip(paths, names, texts, readers, strict=True):
        try:
            _predict_video(opened(), path.name, name, text, predictor, outputs, results, tracking)
        except UserError as error:
            failures += 1
            report_failure(error)
    return failures


def _predict_video(
    reader: video.VideoReader | CameraReader,
    title: str,
    name: str,
    text: str,
    predictor,
    outputs,
    results,
    tracking: TrackingOptions | None,
) -> None:
    seconds: collections.deque[float] = collections.deque()  # times of the frames that are being processed
    problems: list[UserError] = []
    tracker = ColourTracker() if outputs.colour_by == "object" and tracking is None else None
    follower = None if tracking is None else Follower(tracking)

    def frames() -> Iterator:
        try:
            for frame in reader:
                seconds.append(frame.seconds)
                yield frame.pixels
        except UserError as error:
            problems.append(error)  # the frames before it are still written

    def coloured() -> Iterator:
        for prediction in predictor.stream(frames(), masks="rle"):
            found = prediction.result
            followed = follower and follower(found, prediction.pixels.shape[:2])
            if followed is not None:
                prediction = prediction._replace(result={**found, "tracks": followed.numbers})
            colours = tracker and tracker(thing_boxes(found) if "segments" in found else found)
            yield prediction, colours, followed

    def write(item):
        prediction, colours, followed = item
        label = _FRAME.format(name, prediction.index)
        drawn, entry = outputs.write_frame(prediction.pixels, prediction.result, label, colours, followed)
        return prediction, drawn, {**entry, **(followed.counts if followed is not None else {})}

    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress_bar(reader.count, "frame", desc=title))
        writer = None
        if "png" in outputs.formats:
            writer = stack.enter_context(video.VideoWriter(outputs.folder / f"{name}.mp4", reader.rate))
        for future in ordered_futures(write, coloured()):
            prediction, drawn, entry = future.result()
            if writer is not None:
                writer.add(drawn)
            image = {
                "file_name": text,
                "frame": prediction.index,
                "seconds": seconds.popleft(),
            }
            results.add({**image, **entry}, prediction.result)
            bar.update()
    for sentence in follower.sentences() if follower is not None else ():
        print(f"{title}, {sentence}")
    if problems:
        raise problems[0]


def report_failure(error: UserError) -> None:
    """Prints why an image or a video could not be read, above a progress bar."""
    tqdm.tqdm.write(f"jaxmaskrcnn predict: {error}", file=sys.stderr)


def progress_bar(total: int | None, unit: str, **options) -> tqdm.tqdm:
    """A progress bar, which is shown on a terminal only."""
    return tqdm.tqdm(total=total, unit=unit, disable=None, **options)  # None: shown on a terminal
