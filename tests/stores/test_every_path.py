"""Every path that a user gives may be an address: one of an unknown kind is refused in one sentence."""

import argparse
import functools
import importlib
from pathlib import Path

import numpy as np
import pytest
from detectors import random_model, small_config
from restored_logging import restored_logging
from small_runs import tiny_config

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import COMMANDS, main
from jaxmaskrcnn.cli.places import PLACES
from jaxmaskrcnn.config.recipe_files import find_config
from jaxmaskrcnn.convert import load_detector
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.export import export_detector
from jaxmaskrcnn.convert.files.reader import read_checkpoint
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.data import prepare, write_shapes
from jaxmaskrcnn.data.inputs import find_files
from jaxmaskrcnn.report.history import read_history
from jaxmaskrcnn.training.dry_run import dry_run
from jaxmaskrcnn.training.loop import train_and_evaluate
from jaxmaskrcnn.utils.files import write_json

DATA = (
    *(f"{part}_{kind}" for part in ("train", "eval") for kind in ("annotations", "images", "stuff")),
    "cache_dir",
)

# What stands in the place of @ is the address; the rest is local.
COMMAND_LINES = [
    "train --config=@",
    "train --config=@:3",
    "train --config=@.py",
    "train --dry_run --workdir=@",
    "train --workdir=@",
    *(f"train --config=finetune --dry_run {{data}} --config.data.{field}=@" for field in DATA),
    "train --config=finetune --dry_run {data} --config.model.weights=@",
    "evaluate --checkpoint=@ --annotations={json} --images={images}",
    "evaluate --checkpoint=a --annotations=@ --images={images}",
    "evaluate --checkpoint=a --annotations={json} --images=@",
    "evaluate --predictions=@ --annotations={json} --images={images}",
    "evaluate --checkpoint=a --annotations={json} --images={images} --output=@",
    "evaluate --checkpoint=a --annotations={json} --images={images} --cache_dir=@",
    "evaluate --checkpoint=a --annotations={json} --images={images} --model=@",
    "evaluate --checkpoint=a --annotations={json} --images={images} --stuff=@",
    "predict @ --checkpoint=a",
    "predict {images} --checkpoint=@",
    "predict {images} --checkpoint=a --model=@",
    "predict {images} --checkpoint=a --annotations=@",
    "predict {images} --checkpoint=a --font=@",
    "predict {images} --checkpoint=a --output=@",
    "inspect @",
    "inspect {json} --images=@",
    "inspect {json} --images={images} --output=@",
    "inspect {json} --images={images} --stuff=@",
    "import @ --format=coco --output=o.json",
    "import {json} --format=coco --output=@",
    "import {json} --format=coco --images=@ --output=o.json",
    "import {json} --format=coco --rename=@ --output=o.json",
    "import {images} --format=yolo-seg --names=@ --output=o.json",
    "import {images} --format=labelme --keypoints=@ --output=o.json",
    "report @ {json} --images={images} --output=o",
    "report {json} @ --images={images} --output=o",
    "report {json} {json} --images=@ --output=o",
    "report {json} {json} --images={images} --output=@",
    "report {json} {json} --images={images} --output=o --segments=@",
    "report {json} {json} --images={images} --output=o --stuff=@",
    "plot @",
    "plot a --output=@.png",
    "download @",
    "convert @ o",
    "convert a @",
    "convert a o --model=@",
    "convert a o --categories=@",
    "export @ o.npz --format=torchvision",
    "export a @ --format=torchvision",
    "export a o.npz --format=torchvision --model=@",
]

# Arguments that name no place, by command; a new argument is here or in PLACES.
NO_PLACES = {
    "config": "words",
    "train": "dry_run coordinator_address num_processes process_id",
    "evaluate": "protocol bn_eps batch_size on_error crowd class_name allow_outside coordinator_address "
    "num_processes process_id classes tile tile_overlap tta tta_scales class_agnostic_nms max_detections "
    "areas at_score thresholds save_thresholds benchmark",
    "predict": "bn_eps format polygon_tolerance score_threshold classes colour_by tile tile_overlap tta "
    "tta_scales video camera batch_size class_agnostic_nms track track_memory track_birth trail count_line "
    "count_region no_labels no_boxes line_width text_scale pixel_size resume",
    "inspect": "count seed json crowd class_name allow_outside boxes_only skip_decoding processes "
    "min_size max_size",
    "import": "format class_name class_attribute split split_seed ids crowd boxes_only relative first_pixel "
    "on_error",
    "report": "protocol crowd class_name allow_outside score_threshold sigmas pictures",
    "plot": "",
    "models": "words files",
    "download": "",
    "convert": "num_classes allow_new_heads bn_eps weights verbose",
    "export": "format bn_eps batch canvas platforms",
}
PIXELS = {"evaluate", "predict", "inspect", "report"}


@functools.cache
def model():
    return random_model(small_config())


FUNCTIONS = {
    "load_model": lambda at: jmr.load_model(at),
    "config_from_file's yaml": lambda at: config_from_file(type(at)("x://bucket/a.yaml")),
    "save_model": lambda at: jmr.save_model(model(), at),
    "load_backbone": lambda at: jmr.load_backbone(model(), at),
    "download": lambda at: jmr.download(at),
    "Predictor": lambda at: jmr.Predictor(model())(at),
    "load_detector": lambda at: load_detector(at),
    "read_checkpoint": lambda at: read_checkpoint(at),
    "config_from_file": lambda at: config_from_file(at),
    "export_detector": lambda at: export_detector(model(), type(at)("x://bucket/a.npz"), "detectron2"),
    "write_state_dict": lambda at: write_state_dict(
        type(at)("x://bucket/a.npz"), {"a": np.zeros(1)}, "detectron2"
    ),
    "find_config": lambda at: find_config(at),
    "prepare's json": lambda at: prepare(at, "images", "cache"),
    "prepare's images": lambda at: prepare("a.json", at, "cache"),
    "prepare's cache": lambda at: prepare("a.json", "images", at),
    "write_shapes": lambda at: write_shapes(at, 1, 32, seed=0),
    "find_files": lambda at: find_files([f"{at}/*.png"], [".png"]),
    "read_history": lambda at: read_history(at),
    "write_json": lambda at: write_json(at, {}),
    "train_and_evaluate": lambda at: train_and_evaluate(tiny_config("cache"), at),
    "dry_run": lambda at: dry_run(tiny_config("cache"), at),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    annotations, images = write_shapes(tmp_path_factory.mktemp("shapes"), 2, 32, seed=0)
    settings = " ".join(
        f"--config.data.{part}_{kind}={path}"
        for part in ("train", "eval")
        for kind, path in (("annotations", annotations), ("images", images))
    )
    return {"json": annotations, "images": images, "data": settings}


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_refuses_an_unknown_kind_of_address(
    line, data, tmp_path, home, monkeypatch, capsys, quick_compilation
):
    monkeypatch.chdir(tmp_path)
    with restored_logging():
        code = main(line.format(**data).replace("@", "x://bucket/a").split())
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert said.startswith(f"jaxmaskrcnn {line.split()[0]}: ") and "x://bucket/a" in said, said
    assert said.endswith(".") and said.count(". ") == 0, said
    assert [path.name for path in tmp_path.iterdir() if path != home] == []


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_refuses_an_unknown_kind_of_address(name, kind, tmp_path, home, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = "x://bucket/a"
    if kind is Path and name not in ("find_files", "find_config"):
        address = Path(address)
    with pytest.raises(jmr.UserError, match=r"x://bucket/a") as refused:
        FUNCTIONS[name](address)
    assert str(refused.value).endswith(".") and str(refused.value).count(". ") == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"home"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_of_a_command_is_known_to_hold_a_place_or_none(command):
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[command].module).add_arguments(parser)
    names = {action.dest for action in parser._actions} - {"help"}
    others = set(NO_PLACES[command].split())
    if command in PIXELS:
        others |= {name for name in names if name in ("page", "intensity", "intensity_range", "max_pixels")}
    assert names == others | set(PLACES[command])
    assert not others & set(PLACES[command])


@pytest.mark.parametrize("scheme, package", [("gs", "gcsfs"), ("s3", "s3fs")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(scheme, package, home):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(jmr.UserError, match=rf"{package}.* is missing; install jaxmaskrcnn\[{scheme}\]"):
        jmr.load_model(f"{scheme}://bucket/model")


@pytest.mark.parametrize("address", ["gs://", "memory:///", "memory://a/../b"])
def test_an_address_without_a_place_is_refused(address, home):
    with pytest.raises(jmr.UserError, match="names no place in a store"):
        jmr.load_model(address)


def test_a_file_address_is_a_path(tmp_path, home):
    write_json(f"file://{tmp_path}/a.json", {"a": 1})
    assert (tmp_path / "a.json").read_text() == '{"a": 1}\n'
    assert find_files([f"file://{tmp_path}/a.json"], [".json"]) == [tmp_path / "a.json"]


def test_an_address_with_one_slash_is_one(home, tmp_path, monkeypatch):
    """As tools that join paths write it; a local folder of that name would be made, and lost."""
    monkeypatch.chdir(tmp_path)
    model = random_model(small_config())
    for given in ("xx:/bucket/model", Path("xx://bucket/model")):
        with pytest.raises(jmr.UserError, match="directory is xx://bucket/model, and nothing here reads"):
            jmr.save_model(model, given)
    assert main(["export", "model", "xx:/bucket/a.npz", "--format=torchvision"]) == 2
    assert not list(tmp_path.iterdir())
    jmr.save_model(model, f"file:{tmp_path}/model")
    assert jmr.load_model(Path(f"file://{tmp_path}/model")).config == model.config


def test_a_folder_whose_name_is_taken_for_a_bucket_is_refused(tmp_path):
    """Orbax makes an address of a path with gs: and a slash in it."""
    with pytest.raises(jmr.UserError, match="has a folder whose name ends with gs:"):
        jmr.save_model(random_model(small_config()), tmp_path / "gs:" / "model")
    assert not list(tmp_path.iterdir())
