"""`python -m jaxmaskrcnn evaluate` beyond COCO's numbers: tiles, versions, own limits, predictions,
thresholds."""

import json

import numpy as np
import pytest
from data_helpers import encode
from detectors import Stub
from PIL import Image
from restored_logging import restored_logging

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation import command as evaluating
from jaxmaskrcnn.evaluation.coco import coco_metrics
from jaxmaskrcnn.inference import predict as predicting
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.inference.thresholds import read_thresholds, save_thresholds
from jaxmaskrcnn.models.inputs import network_input
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.lookup import model_config

CATEGORIES = (Category(1, "circle"), Category(2, "square"), Category(3, "triangle"))


class Normalising(Stub):
    """Sees the images of an evaluation, which are normalised on the device, as those of a predictor."""

    def detect(self, batch):
        return super().detect(batch._replace(images=network_input(batch, self.config)))


@pytest.fixture(scope="module")
def model():
    sizes = {"input.test_min_size": 64, "input.test_max_size": 64}
    return Normalising(model_config("jaxmaskrcnn/shapes", num_classes=3, categories=CATEGORIES, **sizes))


@pytest.fixture(scope="module")
def data(tmp_path_factory, model):
    """Four images; some objects that the model finds are annotated, and one that it does not find."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    images, annotations = [], []
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 60 * (i + 1), (64, 64, 3), dtype=np.uint8)
        name = f"{i}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": 10 + i, "file_name": name, "height": 64, "width": 64})
        out = Predictor(model, 0.0)(pixels, masks="rle")
        found = [(k, b, m) for k, b, m in zip(out["labels"], out["boxes"], out["masks"], strict=True)][
            i % 2 : 3
        ]
        found.append(
            (2, np.array([30, 40, 50, 60]), encode(np.pad(np.ones((20, 20), bool), ((40, 4), (30, 14)))))
        )
        for label, (x1, y1, x2, y2), mask in found:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": 10 + i, "category_id": int(label), "iscrowd": 0,
                 "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)], "segmentation": mask,
                 "area": float((x2 - x1) * (y2 - y1))}
            )  # fmt: skip
    categories = [{"id": category.id, "name": category.name} for category in CATEGORIES]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "val.json").write_text(json.dumps(content))
    return folder / "val.json", folder / "images"


@pytest.fixture
def run(model, data, tmp_path, monkeypatch):
    """Runs a command with a quick detector beside a json that names it, in the folder ``model``."""
    for module in (evaluating, predicting):
        # The commands load a model by its path; a detector that computes nothing has none.
        monkeypatch.setattr(module, "load_model", lambda *_, **__: model)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text('{"array_folder": "arrays-1"}')

    def of(name, *words, **options):
        flags = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
        if name == "evaluate":
            annotations, images = data
            options = {"annotations": annotations, "images": images, "output": tmp_path / "out"} | options
            if "predictions" not in options:
                options = {"checkpoint": tmp_path / "model"} | options
            flags = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
        with restored_logging():
            before = model.config
            try:
                return command([name, *map(str, words), *flags])
            finally:
                model.config = before

    return of


def same(metrics, other):
    """Equal up to rounding, and neither 0 nor 1."""
    assert metrics["per_class"].keys() == other["per_class"].keys() and 0.05 < metrics["mask_AP"] < 0.95
    for name, row in metrics["per_class"].items():
        assert row == pytest.approx(other["per_class"][name]), name
    alone = [{k: v for k, v in m.items() if k != "per_class"} for m in (metrics, other)]
    assert alone[0] == pytest.approx(alone[1])


def read(tmp_path, name):
    return json.loads((tmp_path / "out" / name).read_text())


@pytest.mark.slow
def test_tiles_of_whole_images_change_nothing(run, tmp_path, capsys):
    assert run("evaluate") == 0
    whole = read(tmp_path, "metrics.json")
    detections = read(tmp_path, "detections.json")
    assert run("evaluate", tile=64) == 0
    same(read(tmp_path, "metrics.json"), whole)
    tiled = read(tmp_path, "detections.json")
    assert [d["image_id"] for d in tiled] == [d["image_id"] for d in detections]
    np.testing.assert_allclose([d["bbox"] for d in tiled], [d["bbox"] for d in detections], atol=1e-4)
    # Smaller ones are other images, of which each has as many detections as a whole one.
    assert run("evaluate", tile=32) == 0
    assert len(read(tmp_path, "detections.json")) > len(detections)
    assert "Masks (segm)" in capsys.readouterr().out


@pytest.mark.slow
def test_everything_beside_coco(run, data, tmp_path, capsys):
    options = {
        "max_detections": 300,
        "areas": "100,400",
        "at_score": 0.4,
        "save_thresholds": True,
        "benchmark": 3,
    }
    assert run("evaluate", **options) == 0
    out = capsys.readouterr().out
    metrics = read(tmp_path, "metrics.json")
    assert {"own_limits", "at_score", "thresholds", "benchmark"} < metrics.keys()
    for said in (
        "Own limits: 300 detections",
        "with scores above 0.4",
        "Score thresholds",
        "images/s as a stream",
    ):
        assert said in out
    stages = metrics["benchmark"]["stages"]
    assert (
        list(stages) == ["reading", "computing", "results", "whole"] and metrics["benchmark"]["images"] == 3
    )
    means = [stages[name]["mean"] for name in ("reading", "computing", "results")]
    assert stages["whole"]["mean"] == pytest.approx(sum(means))
    assert all(0 < row["p50"] <= row["p90"] <= row["max"] for row in stages.values())
    # COCO's numbers are as without all this.
    assert coco_metrics(data[0], read(tmp_path, "detections.json"))["mask_AP"] == metrics["mask_AP"]
    # predict reads the thresholds.
    chosen = read_thresholds(tmp_path / "model")
    assert set(chosen) == {1, 2, 3}
    predicted = tmp_path / "predicted"
    flags = {"checkpoint": tmp_path / "model", "output": predicted, "format": "json"}
    assert run("predict", data[1], score_threshold="saved", **flags) == 0
    kept = json.loads((predicted / "predictions.json").read_text())["annotations"]
    assert run("predict", data[1], score_threshold=0, **flags) == 0
    every = json.loads((predicted / "predictions.json").read_text())["annotations"]
    above = [a for a in every if a["score"] > chosen[a["category_id"]]]
    assert 0 < len(kept) < len(every)
    assert [(a["bbox"], a["score"]) for a in kept] == [(a["bbox"], a["score"]) for a in above]


def predicted_scores(run, data, tmp_path, *words, **options):
    """Names and scores of what predict writes."""
    folder = tmp_path / "predicted"
    flags = {"checkpoint": tmp_path / "model", "output": folder, "format": "json"} | options
    assert run("predict", data[1], *words, **flags) == 0
    found = json.loads((folder / "predictions.json").read_text())["annotations"]
    return [(a["category_name"], a["score"]) for a in found]


def test_saved_thresholds_of_a_model_without_names_are_those_of_the_named_classes(
    run, model, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(model, "config", model.config.replace(categories=()))
    assert run("evaluate", save_thresholds=True) == 0
    content = json.loads((tmp_path / "model" / "thresholds.json").read_text())
    chosen = {row["name"]: row["threshold"] for row in content["classes"].values()}
    assert set(content["classes"]) == {"0", "1", "2"} and 0.0 not in chosen.values()
    every = predicted_scores(run, data, tmp_path, annotations=data[0], score_threshold=0)
    kept = predicted_scores(run, data, tmp_path, annotations=data[0], score_threshold="saved")
    assert kept == [(name, score) for name, score in every if score > chosen[name]]
    assert 0 < len(kept) < len(every)


def test_classes_that_were_not_scored_have_the_saved_threshold_of_all(run, model, data, tmp_path):
    first = CATEGORIES[0].name
    assert run("evaluate", save_thresholds=True, classes=first) == 0
    content = json.loads((tmp_path / "model" / "thresholds.json").read_text())
    chosen, whole = read_thresholds(tmp_path / "model"), content["all"]["threshold"]
    assert whole > 0 and [chosen[c.id] for c in CATEGORIES[1:]] == [whole, whole]
    kept = predicted_scores(run, data, tmp_path, score_threshold="saved")
    assert kept and all(score > whole for name, score in kept if name != first)


@pytest.mark.slow
def test_predictions_are_scored_and_reported(run, data, tmp_path, capsys):
    """predictions.json of predict has the same AP as the model itself; images are found by their names."""
    annotations, images = data
    assert run("evaluate") == 0
    own = read(tmp_path, "metrics.json")
    flags = {"checkpoint": tmp_path / "model", "output": tmp_path / "p", "format": "json"}
    assert run("predict", images, score_threshold=0.05, **flags) == 0
    predictions = tmp_path / "p" / "predictions.json"
    assert run("evaluate", predictions=predictions, thresholds=True) == 0
    metrics = read(tmp_path, "metrics.json")
    assert metrics.pop("thresholds")["of"] == "mask"
    same(metrics, own)
    assert run("evaluate", predictions=tmp_path / "out" / "detections.json") == 0
    same(read(tmp_path, "metrics.json"), own)
    assert run("report", predictions, annotations, images=images, output=tmp_path / "page") == 0
    assert f"mask AP {own['mask_AP']:.3f}" in capsys.readouterr().out
    # Images that were not predicted are not scored.
    first = sorted(images.iterdir())[0]
    assert run("predict", first, score_threshold=0.05, **flags) == 0
    assert run("evaluate", predictions=predictions) == 0
    assert "does not list 3 images" in capsys.readouterr().err
    content = json.loads(annotations.read_text())
    (image,) = [i for i in content["images"] if i["file_name"].endswith(first.name)]
    of_image = {
        **content,
        "images": [image],
        "annotations": [a for a in content["annotations"] if a["image_id"] == image["id"]],
    }
    found = [d for d in read(tmp_path, "detections.json")]
    assert {d["image_id"] for d in found} == {image["id"]}
    assert read(tmp_path, "metrics.json")["mask_AP"] == coco_metrics(of_image, found)["mask_AP"]


@pytest.mark.slow
def test_some_classes_of_a_model_with_more(run, data, tmp_path, capsys):
    """A json with other ids and one class that the model has."""
    content = json.loads(data[0].read_text())
    square = next(c["id"] for c in content["categories"] if c["name"] == "square")
    content["categories"] = [{"id": 77, "name": "Square"}, {"id": 78, "name": "hexagon"}]
    content["annotations"] = [
        {**a, "category_id": 77} for a in content["annotations"] if a["category_id"] == square
    ]
    file = tmp_path / "few.json"
    file.write_text(json.dumps(content))
    assert run("evaluate", annotations=file) == 2
    assert run("evaluate", annotations=file, classes="shared") == 0
    metrics, detections = read(tmp_path, "metrics.json"), read(tmp_path, "detections.json")
    assert list(metrics["per_class"]) == ["Square"] and {d["category_id"] for d in detections} == {77}
    assert run("evaluate") == 0
    assert metrics["mask_AP"] == read(tmp_path, "metrics.json")["per_class"]["square"]["mask_AP"]
    assert run("evaluate", annotations=file, classes="hexagon") == 2
    assert "The model has no class 'hexagon'" in capsys.readouterr().err


@pytest.mark.slow
def test_boxes_of_all_classes_suppress_each_other_if_wanted(run, model, monkeypatch):
    seen = []
    monkeypatch.setattr(evaluating, "Evaluator", lambda config, *_, **__: seen.append(config) or 1 / 0)
    for options in ({}, {"class_agnostic_nms": True}):
        with pytest.raises(ZeroDivisionError):
            run("evaluate", **options)
    assert [config.detections.nms_scope for config in seen] == ["class", "image"]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"max_detections": 50}, "--max_detections is 50, and COCO's numbers have 100; give more"),
        ({"areas": "9,1"}, "--areas is '9,1'; give two numbers of square pixels, the smaller one first"),
        ({"areas": "some"}, "--areas is 'some'"),
        ({"at_score": 1.5}, "--at_score is 1.5; give a score from 0 to 1"),
        ({"benchmark": 0}, "--benchmark is 0"),
        ({"tile_overlap": 4}, "--tile_overlap has no effect without --tile"),
        ({"predictions": "a.json", "checkpoint": "b"}, "--checkpoint and --predictions are both given"),
        ({"predictions": "a.json", "tta": True}, "--tta is of a model, and --predictions has none"),
        ({"predictions": "nowhere.json"}, "the detections nowhere.json cannot be read"),
        ({"num_processes": 2, "tile": 64}, "--tile is for one process"),
        (
            {"checkpoint": "absent", "save_thresholds": True},
            "absent is no model directory, in which thresholds",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, said, run, capsys):
    assert run("evaluate", **options) == 2
    assert said in capsys.readouterr().err


def test_saved_thresholds_are_those_of_the_model(tmp_path):
    (tmp_path / "model.json").write_text('{"array_folder": "arrays-1"}')
    with pytest.raises(UserError, match="has no thresholds.json; measure"):
        read_thresholds(tmp_path)
    rows = {7: {"threshold": 0.25}, 8: {"threshold": None}}
    file = save_thresholds({"all": {"threshold": 0.5}, "classes": rows}, tmp_path)
    assert read_thresholds(tmp_path) == {7: 0.25, 8: 0.5}
    (tmp_path / "model.json").write_text('{"array_folder": "arrays-2"}')
    with pytest.raises(UserError, match="belongs to a model that was in"):
        read_thresholds(tmp_path)
    save_thresholds({"all": {"threshold": None}, "classes": rows}, tmp_path)
    with pytest.raises(UserError, match="has classes without a threshold"):
        read_thresholds(tmp_path)
    file.write_text('{"all": 3}')
    with pytest.raises(UserError, match="is damaged"):
        read_thresholds(tmp_path)


def test_a_threshold_and_thresholds_are_refused_together(model):
    with pytest.raises(UserError, match="both given; give one of them"):
        Predictor(model, 0.5, thresholds={1: 0.5})


def test_files_of_predictions_are_checked(run, data, tmp_path, capsys):
    annotations, images = data
    name = sorted(images.iterdir())[0].name
    good = {
        "categories": [{"id": 1, "name": "circle"}],
        "images": [{"id": 1, "file_name": f"elsewhere/{name}", "height": 64, "width": 64}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "category_name": "circle",
                "score": 0.9,
                "bbox": [1, 2, 3, 4],
            }
        ],
    }

    def said(**changes):
        file = tmp_path / "predictions.json"
        file.write_text(json.dumps({**good, **changes}))
        code = run("evaluate", predictions=file)
        assert code == (0 if not changes else 2)
        return capsys.readouterr().err

    said()
    assert "lists no image no.png" in said(images=[{"id": 1, "file_name": "no.png"}])
    assert "has frames of the video a.mp4" in said(images=[{"id": 1, "file_name": "a.mp4", "frame": 0}])
    assert "an image without a file_name" in said(images=[{"id": 1}])
    box = good["annotations"][0]
    assert "of the class 'fox'" in said(annotations=[{**box, "category_name": "fox"}])
    assert "detection 0 names no image of the file" in said(annotations=[{**box, "image_id": 2}])
    assert "has the score 2" in said(annotations=[{**box, "score": 2}])
