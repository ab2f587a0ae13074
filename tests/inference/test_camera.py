"""Cameras: `predict --video=0`, with pictures that stand for a camera."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from detectors import Stub

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.camera import CameraReader, until_interrupted
from jaxmaskrcnn.inference.outputs import Outputs, json_results
from jaxmaskrcnn.inference.predict_videos import predict_videos
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.zoo.lookup import model_config


class Pictures:
    """Stands for OpenCV's camera: blue frames, endless, or as many as ``count``; Ctrl-C at one of them."""

    def __init__(self, count=None, interrupt=None, rate=10.0, opened=True):
        self.count, self.interrupt, self.rate, self.opened = count, interrupt, rate, opened
        self.taken, self.released = 0, False

    def isOpened(self):
        return self.opened

    def get(self, _what):
        return self.rate

    def read(self):
        if self.taken == self.count:
            return False, None
        self.taken += 1
        if self.taken == self.interrupt:
            os.kill(os.getpid(), signal.SIGINT)
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., 0] = 200  # OpenCV's order is BGR
        return True, frame

    def release(self):
        self.released = True


def test_frames_of_a_camera_come_until_it_is_interrupted():
    camera = Pictures(interrupt=3)
    frames = list(CameraReader(0, lambda number: camera))
    assert len(frames) == 3 and camera.released
    assert frames[0].seconds == 0 and sorted(f.seconds for f in frames) == [f.seconds for f in frames]
    assert frames[0].pixels[0, 0].tolist() == [0, 0, 200]


def test_a_camera_without_a_rate_has_25_frames_per_second():
    assert CameraReader(0, lambda number: Pictures(rate=0.0)).rate == 25
    assert CameraReader(0, lambda number: Pictures(rate=30.0)).rate == 30


def test_a_camera_that_is_absent_or_pulled_out_is_one_sentence():
    with pytest.raises(UserError, match="camera 3 cannot be opened; connect one"):
        CameraReader(3, lambda number: Pictures(opened=False))
    frames = iter(CameraReader(1, lambda number: Pictures(count=1)))
    next(frames)
    with pytest.raises(UserError, match="camera 1 gives no more pictures"):
        next(frames)


def test_a_second_interruption_is_an_interrupt_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with until_interrupted() as interrupted, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(scope="module")
def predictor():
    sizes = {"input.test_min_size": 64, "input.test_max_size": 96}
    return Predictor(Stub(model_config("jaxmaskrcnn/shapes", **sizes)), 0.2)


@pytest.mark.parametrize("pictures, failures", [(Pictures(interrupt=5), 0), (Pictures(count=5), 1)])
def test_what_a_camera_saw_is_written(tmp_path, capsys, predictor, pictures, failures):
    """Whether it is interrupted or pulled out."""
    outputs = Outputs(tmp_path, ("json",), predictor.categories)
    with json_results(outputs, predictor.categories, video=True) as results:
        camera = CameraReader(0, lambda number: pictures)
        assert predict_videos([], predictor, outputs, results, camera=camera) == failures
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert [image["frame"] for image in written["images"]] == list(range(5))
    assert {image["file_name"] for image in written["images"]} == {"camera"}
    assert ("gives no more pictures" in capsys.readouterr().err) == bool(failures)


def test_the_command_says_what_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)  # stands for a library that is not installed
    options = ["--checkpoint=any", f"--output={tmp_path}", "--format=json"]
    assert command(["predict", "--video=0", *options]) == 2
    assert "OpenCV, which is missing" in capsys.readouterr().err
    assert command(["predict", *options]) == 2
    assert "there is no INPUT; give images or folders" in capsys.readouterr().err
