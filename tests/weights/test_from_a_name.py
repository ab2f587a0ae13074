"""From a name to a model: wherever a weights file is taken, so is a name or an address.

The detectors of the registry are large, so a small one stands in the registry beside them, under an address
with the true start of its hash. A server on this machine is the mirror that has it.
"""

import hashlib
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conversion_helpers import arrays_of, imagenet_weights, small
from detectors import flat, random_model, small_config
from PIL import Image
from restored_logging import restored_logging

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.convert import load_detector, read_checkpoint
from jaxmaskrcnn.training.first_weights import first_model
from jaxmaskrcnn.weights.cache import place
from jaxmaskrcnn.zoo import PRESETS
from jaxmaskrcnn.zoo.entry import Preset, PublishedFile

NAME = "detectron2/small"
MSRA = "detectron2/MSRA/R-50"


@pytest.fixture
def mirror(server, monkeypatch, tmp_path):
    """The server, with the small detector and a backbone that goes with `small_config`."""
    monkeypatch.setenv("JAXMASKRCNN_MIRROR", server.address)
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"model": arrays_of("detectron2"), "__author__": "test"}, protocol=2)
    folder = "dl.fbaipublicfiles.com/detectron2"
    path = f"{folder}/Tests/small/123456789/model_final_{hashlib.md5(content).hexdigest()[:6]}.pkl"
    row = Preset(vars(small("detectron2")), {}, weights=PublishedFile(f"https://{path}", "-", "this test"))
    monkeypatch.setitem(PRESETS, NAME, row)
    server.files[f"/{path}"] = content
    backbone = imagenet_weights(random_model(small_config()))
    server.files[f"/{folder}/ImageNetPretrained/MSRA/R-50.pkl"] = pickle.dumps(
        {"model": backbone}, protocol=2
    )
    return server


def same(model, other) -> bool:
    a, b = flat(model), flat(other)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


def test_load_model_by_name_and_by_every_kind_of_address(mirror, tmp_path):
    model = jmr.load_model(NAME)
    assert model.config == small("detectron2")
    assert same(model, random_model(small("detectron2")))
    address = PRESETS[NAME].weights.address
    short = address.replace("https://dl.fbaipublicfiles.com/detectron2/", "detectron2://")
    for given in (NAME, address, short, Path(short)):
        again = jmr.load_model(given)
        assert again.config == model.config and same(again, model), given
    assert len(mirror.asked) == 1
    # A file of one's own has no name that would tell its settings.
    file = tmp_path / "mine, 100%.pkl"
    file.write_bytes(place(address).read_bytes())
    with pytest.raises(jmr.UserError, match=r"give as model= \(--model=\)"):
        jmr.load_model(file)
    uri = file.as_uri()
    assert "%25" in uri and same(jmr.load_model(uri, NAME), model)
    assert same(jmr.load_model(f"{mirror.address}{'/' + address.removeprefix('https://')}", NAME), model)
    with pytest.raises(jmr.UserError, match="absent.pkl does not exist; give a model directory"):
        jmr.load_model("file:///absent.pkl")


def test_the_settings_that_are_given_count(mirror):
    config = small("detectron2").replace({"detections.score_threshold": 0.3})
    assert jmr.load_model(NAME, config).config == config
    model, report = load_detector(NAME, allow_new_heads=True, num_classes=5)
    assert model.config.num_classes == 5 and report.model == NAME


def test_backbones_by_name(mirror):
    model = random_model(small_config(), seed=1)
    report = jmr.load_backbone(model, MSRA)
    assert report.path == str(
        place("https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl")
    )
    assert same(model.backbone.body, random_model(small_config()).backbone.body)
    assert "stem.conv1.weight" in read_checkpoint("detectron2://ImageNetPretrained/MSRA/R-50.pkl")
    jmr.load_backbone(random_model(small("detectron2"), seed=1), NAME)  # the one of a detector
    asked = len(mirror.asked)
    for call in (jmr.load_model, load_detector):
        with pytest.raises(
            jmr.UserError, match="torchvision/resnet50 is an ImageNet backbone and no detector; st"
        ):
            call("torchvision/resnet50")
    assert len(mirror.asked) == asked


def test_training_starts_from_names(mirror, caplog):
    caplog.set_level(logging.INFO, "jaxmaskrcnn")
    config = small_config()
    fill = lambda config, seed: random_model(config, seed)  # noqa: E731  (initialisers would have to be compiled)
    model = first_model(config, MSRA, 1, fill)
    assert same(model.backbone.body, random_model(config).backbone.body)
    assert f"Weights: backbone from {MSRA}, the rest random." in caplog.text
    caplog.clear()
    own = small("detectron2", **{"rpn.post_nms_test": 77})
    assert same(first_model(own, NAME, 1, fill), random_model(own))
    # What the weights were trained with is known from the name.
    assert (
        f"{NAME} was made with other settings than this run's: rpn.post_nms_test 1000 (here 77)."
        in caplog.text
    )


def test_train_finds_a_wrong_name_before_it_looks_at_data(mirror, capsys):
    data = [f"--config.data.{name}=absent.json" for name in ("train_annotations", "eval_annotations")]
    for given, message in (
        ("hdfs://host/x.pth", "hdfs://host/x.pth is no address that is read here"),
        ("torchvision/resnet34/x.pth", "has no file 'x.pth'"),
        ("detectron2/MSRA/R-101", "the server answers 404 Not Found"),
    ):
        with restored_logging():
            assert command(["train", "--config=finetune", f"--config.model.weights={given}", *data]) == 2
        assert message in capsys.readouterr().err
        assert not Path("runs").exists()


def test_an_existing_path_comes_first(mirror, caplog):
    jmr.save_model(random_model(small_config()), NAME)
    assert jmr.load_model(NAME).config == small_config()
    assert caplog.messages == [
        f"{NAME} is read from the working directory, not fetched as published weights."
    ]
    caplog.clear()
    jmr.load_model(Path(NAME).absolute())
    assert not caplog.messages and not mirror.asked


def test_paths_that_do_not_exist_are_answered_with_names(mirror):
    published = "; the name detectron2/mask_rcnn_R_50_FPN_3x fetches the published file of that name."
    backbones = (
        "; the names detectron2/MSRA/R-50 and detectron2/torchvision/R-50 fetch published files of that"
    )
    for call, given, message in (
        (jmr.load_model, "detectron2/smal", "; did you mean the published weights detectron2/small"),
        (jmr.load_model, "downloads/model_final_f10217.pkl", published),
        (read_checkpoint, "R-50.pkl", backbones),
        (read_checkpoint, "mine.pth", r"\.npz, \.h5\)\.$"),
        (jmr.load_model, "runs/mine", "name of published weights.$"),
    ):
        with pytest.raises(jmr.UserError, match=message):
            call(given)


@pytest.mark.slow
def test_commands_take_names(mirror, capsys, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.jpg")
    assert command(["convert", NAME, "models/small"]) == 0
    assert f"{NAME}, 2 classes" in capsys.readouterr().out
    assert command(["export", NAME, "copy.npz", "--format=detectron2"]) == 0
    copy = np.load("copy.npz")
    assert all(np.array_equal(copy[name], array) for name, array in arrays_of("detectron2").items())
    with restored_logging():
        words = ["evaluate", f"--checkpoint={MSRA}", "--annotations=absent.json", "--images=."]
        assert command(words) == 2
    assert "is an ImageNet backbone and no detector" in capsys.readouterr().err
    assert command(["predict", "photo.jpg", f"--checkpoint={NAME}", "--score_threshold=0"]) == 0
    assert {path.name for path in Path("predictions").iterdir()} == {"photo.png", "predictions.json"}
    assert "objects in 1 image" in capsys.readouterr().out
    assert len(mirror.asked) == 1
    with restored_logging():
        assert command(["evaluate", f"--checkpoint={NAME}", "--annotations=absent.json", "--images=."]) == 2
    assert "absent.json" in capsys.readouterr().err


def test_fetching_does_not_wait_for_jax():
    code = "import sys, jaxmaskrcnn.weights.locate, jaxmaskrcnn.cli.download; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
