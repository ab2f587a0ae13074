"""Everything that writes files: the commands, `prepare`, `save_model` and the checkpoints of a run.

Models are replaced by stand-ins that compile nothing. They have no influence on what is written where.
"""

import base64
import functools
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax.numpy as jnp
import numpy as np
import optax
from detectors import Stub, random_model, small_config
from flax import nnx
from fuzz.scenes import coco_content, write_coco
from PIL import Image
from quick_training import recorded, train

from jaxmaskrcnn.checkpoints import directory
from jaxmaskrcnn.checkpoints.directory import load_model, save_model
from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.convert.export import export_detector
from jaxmaskrcnn.convert.state_dict import variables_by_path
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference import predict as predicting
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.zoo.lookup import model_config


class Case(NamedTuple):
    """Something that writes.

    Attributes:
        run: Gets the folder of the inputs and the one for the outputs; returns the exit code.
        before: Makes what is there before, in the folder for the outputs; None is nothing.
        check: Returns what is wrong with outputs that are complete; gets the same folders.
        exact: Whether two runs write the same bytes.
    """

    run: Callable[[Path, Path], int]
    before: Callable[[Path, Path], object] | None = None
    check: Callable[[Path, Path], str] = lambda inputs, out: ""
    exact: bool = True


def write_inputs(folder: Path) -> None:
    """What all cases read."""
    content = coco_content()
    content["categories"] = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]
    write_coco(folder, content)
    model = random_model(_config())
    save_model(model, folder / "model")
    report = export_detector(model, folder / "weights.safetensors", "detectron2")
    (folder / "weights.yaml").write_text(report.settings)
    (folder / "tool").mkdir()
    _labelme(folder / "tool")
    (folder / "run").mkdir()
    lines = [{"step": i, "loss": 3.0 / i, "learning_rate": 0.1} for i in range(1, 6)]
    (folder / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _labelme(folder: Path) -> None:
    """An image that only the json holds, so that the import writes it."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(file, "PNG")
    shape = {"label": "cat", "points": [[2, 2], [20, 3], [10, 18]], "shape_type": "polygon", "group_id": None}
    data = base64.b64encode(file.getvalue()).decode()
    content = {
        "shapes": [shape],
        "imagePath": "a.png",
        "imageHeight": 30,
        "imageWidth": 40,
        "imageData": data,
    }
    (folder / "a.json").write_text(json.dumps(content))


@functools.cache
def _config():
    return small_config(num_classes=2, categories=(Category(1, "cat"), Category(7, "dog")))


@functools.cache
def _stub():
    sizes = {"input.test_min_size": 64, "input.test_max_size": 96}
    return Stub(model_config("jaxmaskrcnn/shapes", num_classes=2, categories=_config().categories, **sizes))


def _with_stub(module, arguments: list) -> int:
    with mock.patch.object(module, "load_model", lambda *_, **__: _stub()):  # compiles in no time
        return command(list(map(str, arguments)))


def _function(name: str):
    """Makes a function's exception a sentence, as commands do."""

    def decorate(function):
        @functools.wraps(function)
        def run(inputs: Path, out: Path) -> int:
            try:
                function(inputs, out)
            except UserError as error:
                print(f"jaxmaskrcnn {name}: {error}", file=sys.stderr)
                return 2
            except OSError as error:
                if error.filename is None:
                    raise
                print(f"jaxmaskrcnn {name}: {error.filename} ({error.strerror}).", file=sys.stderr)
                return 2
            return 0

        return run

    return decorate


def _train(inputs: Path, out: Path) -> int:
    return train(inputs / "tiny.py", out / "run")


def _trained(inputs: Path, out: Path) -> str:
    steps, evaluated = recorded(out / "run")
    if steps != [1, 2] or evaluated != [2]:
        return f"metrics.jsonl has the steps {steps} and the evaluations {evaluated}"
    load_model(out / "run")
    load_model(out / "run" / "model")
    json.loads((out / "run" / "run.json").read_text())
    return ""


def _data_of_run(inputs: Path, out: Path) -> None:
    """Images and records of an earlier run, so that only what comes after them is written."""
    train(inputs / "tiny.py", out / "run", "--config.train.steps=1", "--config.train.eval_every=0")
    for path in (out / "run").iterdir():
        if path.name != "data":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@_function("prepare")
def _prepare(inputs, out):
    source = prepare(inputs / "set.json", inputs / "images", out / "cache")
    assert [len(source[i].labels) for i in range(len(source))] == [2, 2]


def _evaluate(inputs, out):
    return _with_stub(
        directory,
        ["evaluate", "--checkpoint=any", f"--annotations={inputs / 'set.json'}"]
        + [f"--images={inputs / 'images'}", f"--output={out / 'scores'}", f"--cache_dir={out / 'cache'}"],
    )


def _evaluate_without_cache(inputs, out):
    return _with_stub(
        directory,
        ["evaluate", "--checkpoint=any", f"--annotations={inputs / 'set.json'}"]
        + [f"--images={inputs / 'images'}"],
    )


def _predict(inputs, out):
    return _with_stub(
        predicting,
        ["predict", inputs / "images", "--checkpoint=any", f"--output={out / 'found'}"]
        + ["--format=png,json,labelme,geojson,masks", "--score_threshold=0.1"],
    )


def _convert(inputs, out):
    arguments = [inputs / "weights.safetensors", out / "model", f"--model={inputs / 'weights.yaml'}"]
    return command(["convert", *map(str, arguments)])


def _export(name: str):
    def run(inputs, out):
        library = "stablehlo" if name.endswith("stablehlo") else "detectron2"
        options = ["--canvas=64x64", "--platforms=cpu"] if library == "stablehlo" else []
        if library == "stablehlo":
            return _with_stub(
                directory, ["export", "any", out / "exported" / name, f"--format={library}", *options]
            )
        return command(["export", str(inputs / "model"), str(out / "exported" / name), f"--format={library}"])

    return run


def _report(inputs, out):
    return command(
        ["report", str(inputs / "detections.json"), str(inputs / "set.json"), f"--images={inputs / 'images'}"]
        + [f"--output={out / 'report'}"]
    )


def _import(inputs, out):
    # An image that only the json holds is written beside it.
    return command(
        ["import", str(out / "tool"), "--format=labelme", f"--output={out / 'imported' / 'set.json'}"]
    )


def _older_import(inputs, out):
    shutil.copytree(inputs / "tool", out / "tool")
    _older("imported/set.json")(inputs, out)


def _inspect(inputs, out):
    return command(
        ["inspect", str(inputs / "set.json"), f"--images={inputs / 'images'}"]
        + [f"--output={out / 'sheets' / 'sheet.png'}", "--processes=1"]
    )


def _plot(inputs, out):
    return command(["plot", str(inputs / "run"), f"--output={out / 'charts' / 'metrics.png'}"])


@_function("save_model")
def _save_model(inputs, out):
    save_model(random_model(_config()), out / "model")


def _model_reads(inputs: Path, out: Path) -> str:
    arrays = variables_by_path(load_model(out / "model"))
    finite = all(np.isfinite(np.asarray(x[...], np.float32)).all() for x in arrays.values())
    return "" if finite else "the model is not as it was saved"


class _Position:
    def get_state(self):
        return {"step": 0}

    def set_state(self, state):
        pass


def _state(step: int):
    layer = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    _, _, state = init_state(layer, nnx.Param, lambda params: optax.trace(0.9))
    return {**state, "step": jnp.int32(step)}


@_function("checkpoint")
def _checkpoint(inputs, out):
    (out / "run").mkdir(exist_ok=True)
    with Checkpoints(out / "run", keep=1) as checkpoints:
        checkpoints.save(_state(2), _Position())


def _first_checkpoint(inputs, out):
    with Checkpoints(out / "run", keep=1) as checkpoints:
        checkpoints.save(_state(1), _Position())


def _checkpoint_reads(inputs, out):
    with Checkpoints(out / "run", keep=1) as checkpoints:
        step = int(checkpoints.restore(_state(0), _Position())["step"])
    return "" if step == 2 else f"the latest checkpoint is of step {step}"


def _older(*names: str):
    """Files of an earlier run with other content."""

    def before(inputs: Path, out: Path) -> None:
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(b"older\n")

    return before


def _older_model(inputs: Path, out: Path) -> None:
    save_model(random_model(_config(), seed=1), out / "model")


CASES: dict[str, Case] = {
    "plot": Case(_plot, _older("charts/metrics.png")),
    "inspect": Case(_inspect, _older("sheets/sheet.png")),
    "report": Case(_report, _older("report/report.html")),
    "import": Case(_import, _older_import),
    "import (new folder)": Case(_import, lambda i, out: shutil.copytree(i / "tool", out / "tool") and None),
    "prepare": Case(_prepare, exact=False),
    "predict": Case(_predict, _older("found/predictions.json", "found/1.png")),
    "predict (new folder)": Case(_predict),
    "evaluate": Case(_evaluate, _older("scores/metrics.json", "scores/detections.json"), exact=False),
    "evaluate (temporary folder)": Case(_evaluate_without_cache),
    "export (safetensors)": Case(_export("a.safetensors"), _older("exported/a.safetensors")),
    "export (npz)": Case(_export("a.npz")),
    "export (pkl)": Case(_export("a.pkl")),
    "export (stablehlo)": Case(_export("a.stablehlo"), _older("exported/a.stablehlo"), exact=False),
    "convert": Case(_convert, check=_model_reads, exact=False),
    "save_model": Case(_save_model, _older_model, check=_model_reads, exact=False),
    "checkpoint": Case(_checkpoint, _first_checkpoint, check=_checkpoint_reads, exact=False),
    "train (first start)": Case(_train, check=_trained, exact=False),
    "train": Case(_train, _data_of_run, check=_trained, exact=False),
}
