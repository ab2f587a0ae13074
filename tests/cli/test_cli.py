"""evaluate.py and `python -m jaxmaskrcnn predict`, from files to files."""

import contextlib
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from detectors import Oracle, random_model, small_config
from flax import nnx
from folders import ROOT
from PIL import Image
from pycocotools.coco import COCO
from restored_logging import restored_logging

from jaxmaskrcnn.checkpoints.directory import load_model, save_model
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.cli.main import run_command
from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.convert.export import export_detector
from jaxmaskrcnn.data.inputs import output_names
from jaxmaskrcnn.data.records.prepare import prepare
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import coco_metrics
from jaxmaskrcnn.evaluation.evaluate import Evaluator, match_categories
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo import PRESETS
from jaxmaskrcnn.zoo.categories import COCO_80, COCO_90
from jaxmaskrcnn.zoo.entry import Preset

CATEGORIES = (Category(2, "block"), Category(9, "slab"))
SIZES = [(36, 90), (80, 50), (50, 50), (30, 80), (64, 64)]  # height, width


def evaluate_command(arguments):
    return run_command("evaluate", arguments, "evaluate.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five pictures with filled rectangles, ids with holes, one picture without objects."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i, (height, width) in enumerate(SIZES):
        pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        for k in range(0 if i == 2 else 2):
            h, w = rng.integers(12, 24, 2).tolist()
            y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
            pixels[y : y + h, x : x + w] = (250, 90 * k, 40)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": 10 + 7 * (4 - i),
                    "category_id": CATEGORIES[k].id,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        Image.fromarray(pixels).save(folder / f"{i}.png")
        images.append({"id": 10 + 7 * (4 - i), "file_name": f"{i}.png", "height": height, "width": width})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [c._asdict() for c in reversed(CATEGORIES)],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def config():
    # All pictures share one canvas, and so one compiled program.
    return small_config(num_classes=2, categories=CATEGORIES, **{"input.pad_divisor": 128})


@pytest.fixture(scope="module")
def checkpoint(config, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "model"
    save_model(random_model(config), directory)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(
    "batch_size, rule", [(1, "multiply_and_clip"), pytest.param(2, "multiply", marks=pytest.mark.slow)]
)
def test_an_evaluator_of_the_truth_scores_one(data, config, tmp_path, batch_size, rule):
    config = config.replace({"detections.rescale_rule": rule})
    source = prepare(data / "instances.json", data, tmp_path)
    graphdef, state = nnx.split(Oracle(config, source))
    evaluator = Evaluator(config, graphdef, source, DataConfig(eval_batch_size=batch_size), progress=False)
    metrics, detections = evaluator.run(state)
    assert metrics["box_AP"] == pytest.approx(1) and metrics["mask_AP"] == pytest.approx(1)
    assert [d["image_id"] for d in detections] == [10, 10, 17, 17, 31, 31, 38, 38]
    # Other weights, the same compiled function.
    nothing = nnx.state(Oracle(config, source))
    nothing["valid"][...] = nothing["valid"][...] * 0
    metrics, detections = evaluator.run(nothing)
    assert metrics["box_AP"] == 0 and detections == []
    assert evaluator.run(state)[0]["box_AP"] == pytest.approx(1)


def test_evaluate_writes_what_it_prints(data, checkpoint, tmp_path, capsys):
    arguments = [f"--checkpoint={checkpoint}", "--annotations", str(data / "instances.json")]
    arguments += [f"--images={data}", f"--output={tmp_path / 'out'}", "--batch_size=1"]
    with restored_logging():
        assert evaluate_command(arguments) == 0
    printed = capsys.readouterr()
    assert "Boxes (bbox)" in printed.out and "Masks (segm)" in printed.out and "slab" in printed.out
    assert "5/5" in printed.err  # the progress bar
    assert "\nprepared 5 images" in f"\n{printed.err}"  # without a logger's prefix
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    detections = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["detections.json", "metrics.json"]
    assert set(metrics["per_class"]) == {"block", "slab"}
    assert coco_metrics(data / "instances.json", detections) == metrics
    with contextlib.redirect_stdout(io.StringIO()):
        content = json.loads((data / "instances.json").read_text())
        truth = COCO()
        truth.dataset = {**content, "info": {}}
        truth.createIndex()
        loaded = truth.loadRes(str(tmp_path / "out" / "detections.json"))
    assert len(loaded.anns) == len(detections) > 0


def evaluation_error(capsys, **changes):
    with restored_logging():
        code = evaluate_command([f"--{key}={value}" for key, value in changes.items()])
    printed = capsys.readouterr()
    assert code == 2 and "Traceback" not in printed.err
    return printed.err[printed.err.rindex("evaluate.py: ") :].strip()


def test_evaluate_names_mistakes(data, checkpoint, tmp_path, capsys):
    good = {"checkpoint": checkpoint, "annotations": data / "instances.json", "images": data}
    said = evaluation_error(capsys, **{**good, "checkpoint": tmp_path / "absent"})
    assert said.startswith("evaluate.py:") and "absent" in said
    assert "nowhere.json" in evaluation_error(capsys, **{**good, "annotations": data / "nowhere.json"})
    assert "nofolder" in evaluation_error(capsys, **{**good, "images": data / "nofolder"})
    assert "--batch_size is 0" in evaluation_error(capsys, **good, batch_size=0)
    content = json.loads((data / "instances.json").read_text())
    content["categories"] = [{"id": 2, "name": "block"}]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 2]
    (tmp_path / "few.json").write_text(json.dumps(content))
    assert "9 (slab)" in evaluation_error(capsys, **{**good, "annotations": tmp_path / "few.json"})


@pytest.mark.slow  # test_user_stories.py has a quick one
def test_evaluate_reads_the_files_of_other_libraries(data, checkpoint, tmp_path, capsys, monkeypatch):
    """A file carries no categories, so that the annotations' are taken."""
    file = tmp_path / "m.safetensors"
    export_detector(load_model(checkpoint), file, "detectron2")
    nameless = load_model(checkpoint).config.replace(categories=())
    # A command line names presets, and those of the registry are too large for a test.
    monkeypatch.setitem(PRESETS, "detectron2/small", Preset(vars(nameless), {}))
    monkeypatch.setitem(PRESETS, "detectron2/three", Preset({**vars(nameless), "num_classes": 3}, {}))
    arguments = [f"--checkpoint={file}", "--model=detectron2/small", f"--images={data}"]
    arguments += [f"--annotations={data / 'instances.json'}", f"--output={tmp_path / 'out'}"]
    with restored_logging():
        assert evaluate_command(arguments) == 0
    assert "slab" in capsys.readouterr().out
    detections = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {d["category_id"] for d in detections} == {2, 9}
    good = {"checkpoint": file, "annotations": data / "instances.json", "images": data}
    assert "give as model= (--model=)" in evaluation_error(capsys, **good)
    assert "no model named 'nonsense'" in evaluation_error(capsys, **good, model="nonsense")
    # The number of classes is the file's, whatever the preset has.
    with restored_logging():
        assert evaluate_command([*arguments, "--model=detectron2/three"]) == 0
    assert "slab" in capsys.readouterr().out
    assert "bn_eps is -1" in evaluation_error(capsys, **good, model="detectron2/small", bn_eps=-1)
    content = json.loads((data / "instances.json").read_text())
    content["categories"].append({"id": 11, "name": "third"})
    (tmp_path / "three.json").write_text(json.dumps(content))
    said = evaluation_error(
        capsys, **{**good, "annotations": tmp_path / "three.json"}, model="detectron2/small"
    )
    assert "has 2 classes" in said and "3 categories" in said


def test_slots_that_no_category_uses_do_not_disturb():
    """torchvision's 90 classes on annotations with COCO's 80 categories."""
    config = ModelConfig(num_classes=90, categories=COCO_90)
    assert match_categories(config, COCO_80) == COCO_90
    assert match_categories(ModelConfig(num_classes=90), COCO_80)[:12] == (
        *COCO_80[:11], Category(12, "class 12")
    )  # fmt: skip
    with pytest.raises(UserError, match="has 2 classes .* 80 categories"):
        match_categories(ModelConfig(num_classes=2), COCO_80)


def run_predict(checkpoint, output, *images, threshold=0.05, **changes):
    return command(
        ["predict", *map(str, images), f"--checkpoint={checkpoint}", "--output", str(output),
         f"--score_threshold={threshold}", *(f"--{name}={value}" for name, value in changes.items())]
    )  # fmt: skip


@pytest.mark.slow
def test_predict_reads_the_files_of_other_libraries(data, checkpoint, tmp_path, capsys, monkeypatch):
    export_detector(load_model(checkpoint), tmp_path / "m.pkl", "detectron2")
    config = load_model(checkpoint).config
    # A command line names presets, and those of the registry are too large for a test.
    monkeypatch.setitem(PRESETS, "detectron2/small", Preset(vars(config), {}))
    assert run_predict(tmp_path / "m.pkl", tmp_path / "a", data / "0.png", model="detectron2/small") == 0
    found = json.loads((tmp_path / "a" / "predictions.json").read_text())["annotations"]
    assert found and {entry["category_name"] for entry in found} <= {"block", "slab"}
    assert run_predict(tmp_path / "m.pkl", tmp_path / "c", data / "0.png") == 2
    assert "give as model= (--model=)" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_predict_draws_and_writes_everything(data, checkpoint, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(data / "0.png", folder / "a.png")
    with Image.open(data / "1.png") as other:
        other.save(folder / "a.jpg")
    (folder / "notes.txt").write_text("no image")
    output = tmp_path / "out"
    code = run_predict(checkpoint, output, folder, str(data / "[23].png"), data / "4.png", data / "2.png")
    assert code == 0
    names = {p.name for p in output.iterdir()}
    assert names == {"a.png", "a-2.png", "2.png", "3.png", "4.png", "predictions.json"}
    content = json.loads((output / "predictions.json").read_text())
    assert [i["picture"] for i in content["images"]] == ["a.png", "a-2.png", "2.png", "3.png", "4.png"]
    first = content["images"][0]
    assert first["file_name"] == str(folder / "a.jpg") and (first["height"], first["width"]) == SIZES[1]
    with Image.open(output / "a.png") as drawn:
        assert drawn.size == (50 * 4, 80 * 4)
    assert content["annotations"]
    for entry in content["annotations"]:
        image = content["images"][entry["image_id"] - 1]
        assert entry["file_name"] == image["file_name"]
        assert entry["segmentation"]["size"] == [image["height"], image["width"]]
        assert entry["category_name"] == dict(CATEGORIES)[entry["category_id"]]
        assert entry["score"] > 0.05 and len(entry["bbox"]) == 4
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(COCO(str(output / "predictions.json")).anns) == len(content["annotations"])
    assert f"{len(content['annotations'])} objects in 5 images" in capsys.readouterr().out


@pytest.mark.slow
def test_predict_goes_on_after_a_broken_image(data, checkpoint, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes((data / "0.png").read_bytes()[:100])
    assert run_predict(checkpoint, tmp_path / "out", broken, data / "1.png") == 2
    printed = capsys.readouterr()
    assert str(broken) in printed.err and "Traceback" not in printed.err
    assert (tmp_path / "out" / "1.png").exists() and not (tmp_path / "out" / "broken.png").exists()
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [i["file_name"] for i in content["images"]] == [str(data / "1.png")]


def test_predict_names_mistakes(data, checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for images, said in (
        ([tmp_path / "absent.png"], "absent.png does not exist"),
        ([tmp_path / "empty"], "holds no images"),
        ([tmp_path / "*.png"], "No image matches"),
    ):
        assert run_predict(checkpoint, tmp_path / "out", *images) == 2
        assert said in capsys.readouterr().err
    assert run_predict(tmp_path / "nomodel", tmp_path / "out", data / "0.png") == 2
    assert "nomodel" in capsys.readouterr().err
    assert run_predict(checkpoint, tmp_path / "out", data / "0.png", threshold=2) == 2
    assert "score_threshold is 2" in capsys.readouterr().err


def test_a_picture_never_replaces_an_image(tmp_path):
    paths = [tmp_path / "a" / "x.jpg", tmp_path / "b" / "X.jpg", tmp_path / "out" / "y.png"]
    assert output_names(paths, tmp_path / "out", ["{}.png"]) == ["x", "X-2", "y-2"]


@pytest.mark.slow_except("program0")
@pytest.mark.parametrize(
    "program", [["evaluate.py", "--checkpoint=no", "--annotations=no", "--images=no"],
                ["-m", "jaxmaskrcnn", "predict", "no.png", "--checkpoint=no"]]
)  # fmt: skip
def test_mistakes_end_a_process_with_code_2(program):
    done = subprocess.run([sys.executable, *program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "no" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
