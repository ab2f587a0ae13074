"""Doors that take more than a json: videos, exported predictions, and the checkpoints of a run."""

import functools
import json
import random
from pathlib import Path

import jax
import numpy as np
import optax
from detectors import random_model, small_config

from jaxmaskrcnn import load_model
from jaxmaskrcnn.checkpoints.directory import config_to_json
from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.inference.outputs import Outputs, json_results
from jaxmaskrcnn.inference.predict_videos import predict_videos
from jaxmaskrcnn.inference.stablehlo import export_function
from jaxmaskrcnn.inference.stream import Prediction, StreamingPredictor
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.utils.checksums import with_checksum

# -- videos

_CODECS = {
    "mp4": ("libx264", "yuv420p"),
    "mkv": ("libvpx-vp9", "yuv420p"),
    "avi": ("mjpeg", "yuvj420p"),
    "mpg": ("mpeg2video", "yuv420p"),
}


def write_videos(folder: Path) -> None:
    """A clip of six frames in each of several containers."""
    import av

    folder.mkdir(parents=True)
    for suffix, (codec, pixel_format) in _CODECS.items():
        with av.open(str(folder / f"clip.{suffix}"), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
            for i in range(6):
                pixels = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())


class OneObject(StreamingPredictor):
    """In place of a model, which would be compiled for every size of a frame: one box in each picture."""

    config = small_config()
    categories = (Category(1, "cat"),)

    def _stream(self, images, masks, on_error, name="images[{}]"):
        for index, pixels in enumerate(images):
            height, width = pixels.shape[:2]
            box = np.float32([[0, 0, width / 2, height / 2]])
            result = {"boxes": box, "scores": np.float32([0.9]), "labels": np.array([1])}
            yield Prediction(index, pixels, result)


def predict_video(folder: Path, path: Path, rng: random.Random) -> int:
    """``predict --video``, with a stand-in for the model; 2 where the video was refused."""
    predictor = OneObject()
    outputs = Outputs(folder / "out", rng.choice((("json",), ("png", "json"))), predictor.categories)
    with json_results(outputs, predictor.categories) as results:
        return 2 if predict_videos([path], predictor, outputs, results) else 0


# -- exported predictions


def write_exports(folder: Path) -> None:
    """A prediction as one file of ``jax.export``."""
    folder.mkdir(parents=True)
    export_function(random_model(small_config()), folder / "a.stablehlo", canvas=(64, 64), platforms=("cpu",))


# -- checkpoints of a run


@functools.cache
def _state():
    model = random_model(small_config())
    _, _, state = init_state(model, trainable(model), lambda params: optax.trace(0.9))
    return jax.tree.map(jax.numpy.asarray, state)


class Position:
    """In place of the data's iterator."""

    def __init__(self):
        self.state = {"step": 0}

    def get_state(self) -> dict[str, int]:
        return self.state

    def set_state(self, state: dict[str, int]) -> None:
        self.state = state


def write_workdir(folder: Path) -> None:
    """Two checkpoints of a run, and its ``config.json``."""
    folder.mkdir(parents=True)
    content = json.loads(config_to_json(small_config()))
    (folder / "config.json").write_text(json.dumps(with_checksum(content)))
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save({**_state(), "step": jax.numpy.int32(step)}, Position())


def continue_run(folder: Path, path: Path, rng: random.Random) -> None:
    """Reads the latest checkpoint, as a run that goes on does or as a prediction does."""
    if rng.random() < 0.5:
        load_model(folder)
        return
    with Checkpoints(folder) as checkpoints:
        if checkpoints.latest is not None:
            checkpoints.restore(_state(), Position(), strict=rng.random() < 0.3)
