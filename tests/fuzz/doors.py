"""Every way by which a file of somebody else comes in: a valid folder, what is damaged, what is called."""

import functools
import importlib.util
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from detectors import random_model, small_config
from folders import GOLDENS
from small_runs import tiny_config

from jaxmaskrcnn import load_model, save_model
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.config.json import config_from_json
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.files.reader import SourceFile, read_source
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.torchvision.stored_settings import stored_settings
from jaxmaskrcnn.data import decode_image, prepare
from jaxmaskrcnn.data.coco.reading import CROWD, Reading
from jaxmaskrcnn.data.images import upright_size, used_range
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.training.run_config import check_resumable, write_settings

from .folders_of_tools import TOOLS
from .large_doors import continue_run, predict_video, write_exports, write_videos, write_workdir
from .scenes import (
    CLASS,
    PICTURES,
    PYTHON,
    SIZES,
    YAML,
    coco_content,
    detections_content,
    picture,
    write_checkpoints,
    write_cityscapes,
    write_coco,
    write_keypoints,
    write_lvis,
    write_panoptic,
    write_segments,
    write_stuff,
)


class Door(NamedTuple):
    """One way in.

    Attributes:
        write: Writes the valid files into a new folder.
        targets: Patterns of the files that are damaged.
        call: Reads the files; gets the folder, the damaged file, and a source of choices such as options.
        needs: A package of an extra without which there is nothing to try.
        share: Part of the inputs of other doors that it gets, as each takes a second.
        valid: What becomes of the valid files: "read", or "refused" where they are of another program.
    """

    write: Callable[[Path], None]
    targets: tuple[str, ...]
    call: Callable[[Path, Path, random.Random], object]
    needs: str = ""
    share: float = 1.0
    valid: str = "read"

    @property
    def missing(self) -> str:
        """The package that it needs, where that is not installed."""
        return self.needs if self.needs and importlib.util.find_spec(self.needs) is None else ""

    def number(self, inputs: int) -> int:
        """How many inputs it gets where others get so many."""
        return max(round(inputs * self.share), 1)


def _inspect(folder, path, rng):
    options = rng.choice(([], ["--boxes_only"], ["--class_name=x"], ["--crowd=objects"], ["--json"]))
    count = rng.choice((0, 0, 0, 0, 0, 0, 2))  # drawing takes most of the time
    return command(
        ["inspect", str(folder / "set.json"), f"--images={folder / 'images'}", f"--count={count}", *options]
        + [f"--output={folder / 'out' / 'sheet.png'}", "--processes=1"]
    )


def _prepare(folder, path, rng, **options):
    reading = options.pop("reading", None) or Reading(rng.choice(CROWD), rng.choice(("", "", "x")))
    masks, on_error = rng.random() < 0.8, rng.choice(("stop", "skip", "skip"))
    source = prepare(
        folder / "set.json", folder / "images", folder / "cache", on_error, masks=masks, reading=reading,
        **options,
    )  # fmt: skip
    _read_all(source)


def _read_all(source):
    for i in range(len(source)):
        item = source[i]
        _ = item.masks, item.pixels(), item.boxes, item.rles, item.polygons


def _stuff(folder, rng):
    """Where the stuff is, and the names of its labels, which pictures do not have."""
    return rng.choice(((folder / "stuff.json", ()), (folder / "labels", ()), (folder / "labels", ("a", "b"))))


def _prepare_stuff(folder, path, rng):
    source, names = _stuff(folder, rng)
    _prepare(folder, path, rng, reading=Reading(stuff=str(source), stuff_names=names))


def _inspect_stuff(folder, path, rng):
    return command(
        ["inspect", str(folder / "set.json"), f"--images={folder / 'images'}", "--count=0", "--processes=1"]
        + [f"--stuff={_stuff(folder, rng)[0]}"]
    )


def _report_segments(folder, path, rng):
    return command(
        ["report", str(folder / "detections.json"), str(folder / "set.json"), f"--images={folder / 'images'}"]
        + [f"--output={folder / 'out'}", "--pictures=0", f"--segments={folder / 'segments.json'}"]
    )


def _score(folder, path, rng, protocol="auto"):
    reading = Reading(rng.choice(CROWD), rng.choice(("", "", "x"))) if protocol == "auto" else Reading()
    truth = GroundTruth(
        folder / "set.json", rng.choice(("stop", "skip")), folder=folder / "images", reading=reading,
        protocol=protocol,
    )  # fmt: skip
    sizes = {i + 1: size for i, size in enumerate(SIZES)}
    detections = [
        d for d in detections_content()
        if d["image_id"] in truth.images
        and (truth.images[d["image_id"]].height, truth.images[d["image_id"]].width) == sizes[d["image_id"]]
    ]  # fmt: skip
    truth.score(detections)


def _report(folder, path, rng):
    options = rng.choice(([], [f"--crowd={rng.choice(CROWD)}"], ["--pictures=0"]))
    return command(
        ["report", str(folder / "detections.json"), str(folder / "set.json"), *options]
        + [f"--images={folder / 'images'}", f"--output={folder / 'out'}"]
    )


def _import(tool: str) -> Door:
    write, source, targets, arguments = TOOLS[tool]

    def call(folder, path, rng):
        arguments_now = [word.format(folder) for word in arguments]
        if rng.random() < 0.5:
            arguments_now.append("--on_error=skip")
        form = tool.split(" ")[0]
        return command(
            ["import", str(folder / source), f"--format={form}", *arguments_now]
            + [f"--output={folder.parent / 'out' / 'set.json'}"]
        )

    return Door(write, targets, call)


def _checkpoint(kind: str) -> Door:
    return Door(
        lambda folder: write_checkpoints(folder, kind, GOLDENS / "torch_files"),
        ("*",),
        lambda folder, path, rng: read_source(path, rng.choice(("auto", "auto", "model", "ema"))),
    )


def _write_whole_model(folder):
    folder.mkdir(parents=True)
    name = "torchvision_model.zip.pth"
    (folder / name).write_bytes((GOLDENS / "torch_files" / name).read_bytes())


def _whole_model(folder, path, rng):
    source = read_source(path)
    return stored_settings(LIBRARIES["torchvision"].usual, source._replace(path=str(path)))


def _write_arguments(folder):
    folder.mkdir(parents=True)
    (folder / "a.json").write_text(json.dumps(ARGUMENTS))


def _arguments(folder, path, rng):
    return stored_settings(LIBRARIES["torchvision"].usual, SourceFile(str(folder / "a.pth"), {}, {}))


def _config(name: str, text: str) -> Door:
    def write(folder):
        folder.mkdir(parents=True)
        (folder / name).write_text(text)

    return Door(write, (name,), lambda f, path, rng: config_from_file(path, training=rng.random() < 0.5))


@functools.cache
def _model():
    return random_model(small_config())


def _write_model(folder):
    save_model(_model(), folder)


def _run_config():
    return tiny_config("cache")


def _write_run(folder):
    config = _run_config()
    write_settings(folder, config.model.architecture, config)


def _check_run(folder, path, rng):
    config = _run_config()
    check_resumable(folder, config.model.architecture, config)


def _write_metrics(folder):
    folder.mkdir(parents=True)
    lines = [{"step": i, "loss": 3.0 / i, "loss_mask": 0.5, "learning_rate": 0.1} for i in range(1, 6)]
    lines += [{"step": 5, "eval/box_AP": 0.25, "eval/mask_AP": None, "eval/loss": 1.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_config_json(folder):
    folder.mkdir(parents=True)
    _write_model(folder / "model")
    shutil.move(folder / "model" / "model.json", folder / "config.json")
    shutil.rmtree(folder / "model")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content))


def _write_records(folder):
    write_coco(folder, coco_content())
    prepare(folder / "set.json", folder / "images", folder / "cache")


def _read_records(folder, path, rng):
    _read_all(prepare(folder / "set.json", folder / "images", folder / "cache"))


def _picture(kind: str) -> Door:
    def write(folder):
        folder.mkdir(parents=True)
        for i, options in enumerate(PICTURES[kind]):
            (folder / f"{i}.{kind}").write_bytes(picture(kind, **options))

    def call(folder, path, rng):
        pixels = PixelConfig(intensity=rng.choice(("dtype", "percentile")), page=rng.choice((-1, -1, 0, 1)))
        source = rng.choice((path, path.read_bytes()))
        for check in (
            lambda: upright_size(path),
            lambda: used_range(path.read_bytes(), name="x", pixels=pixels),
        ):
            if rng.random() < 0.2:
                check()
        decode_image(source, pixels=pixels)

    return Door(write, ("*",), call)


def _write_detections(folder):
    write_coco(folder, coco_content())


COCO = ("set.json",)
STUFF = ("set.json", "stuff.json", "labels/*.png")
# torchvision's, as a script has them.
ARGUMENTS = {
    "min_size": [320, 400],
    "box_score_thresh": 0.3,
    "image_mean": [0.4, 0.5, 0.6],
    "rpn_anchor_generator": {"sizes": [[8], [16], [32], [64], [128]], "aspect_ratios": [[0.5, 1, 2]]},
    "bbox_reg_weights": [10, 10, 5, 5],
    "mask_roi_pool": {"output_size": [14, 14], "sampling_ratio": -1},
}
CHECKPOINTS = ("zip", "stream", "pkl", "safetensors", "npz", "h5")

DOORS: dict[str, Door] = {
    "inspect": Door(lambda folder: write_coco(folder, coco_content()), COCO, _inspect),
    "prepare": Door(lambda folder: write_coco(folder, coco_content()), COCO, _prepare),
    "score": Door(lambda folder: write_coco(folder, coco_content()), COCO, _score),
    "report": Door(lambda folder: write_coco(folder, coco_content()), COCO, _report),
    **{
        f"{name} panoptic": Door(write_panoptic, ("set.json", "set/*.png"), call, share=0.5)
        for name, call in (("inspect", _inspect), ("prepare", _prepare))
    },
    **{
        name: Door(write, targets, call, share=0.5)
        for name, write, targets, call in (
            ("inspect keypoints", write_keypoints, COCO, _inspect),
            ("prepare keypoints", write_keypoints, COCO, functools.partial(_prepare, keypoints=True)),
            ("report keypoints", write_keypoints, ("set.json", "detections.json"), _report),
            ("inspect lvis", write_lvis, COCO, _inspect),
            ("score lvis", write_lvis, COCO, functools.partial(_score, protocol="lvis")),
            ("inspect cityscapes", write_cityscapes, COCO, _inspect),
            ("score cityscapes", write_cityscapes, COCO, functools.partial(_score, protocol="cityscapes")),
            ("inspect stuff", write_stuff, STUFF, _inspect_stuff),
            ("prepare stuff", write_stuff, STUFF, _prepare_stuff),
            ("segments", write_segments, ("segments.json", "segments/*.png"), _report_segments),
        )
    },
    "detections": Door(_write_detections, ("detections.json",), _report),
    **{f"import {tool}": _import(tool) for tool in TOOLS},
    "config yaml": _config("a.yaml", YAML),
    "config python": _config("a.py", PYTHON),
    "config class": _config("a.py", CLASS),
    **{f"checkpoint {kind}": _checkpoint(kind) for kind in CHECKPOINTS},
    "whole model": Door(_write_whole_model, ("*",), _whole_model),
    "arguments": Door(_write_arguments, ("a.json",), _arguments),
    "model directory": Door(
        _write_model, ("*", "model.json"), lambda folder, path, rng: load_model(folder), share=0.05
    ),
    "checkpoints of a run": Door(
        write_workdir, ("checkpoints/*", "config.json"), continue_run, share=0.05
    ),
    "exported prediction": Door(
        write_exports, ("*",), lambda folder, path, rng: load_model(path), needs="flatbuffers",
        valid="refused",
    ),
    "video": Door(write_videos, ("*",), predict_video, needs="av"),
    "model.json": Door(
        _write_config_json, ("config.json",),
        lambda folder, path, rng: config_from_json(path.read_bytes(), str(path)),
    ),
    "run.json": Door(_write_run, ("run.json",), _check_run),
    "metrics.jsonl": Door(
        _write_metrics, ("metrics.jsonl",),
        lambda folder, path, rng: command(["plot", str(folder), f"--output={folder / 'out' / 'a.png'}"]),
    ),
    "records": Door(_write_records, ("cache/*/*/*/*",), _read_records),
    **{f"picture {kind}": _picture(kind) for kind in PICTURES},
}  # fmt: skip
