"""`python -m jaxmaskrcnn predict`: streams, formats, classes, tiles, versions, videos, comparisons."""

import contextlib
import functools
import http.server
import json
import struct
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
from detectors import Stub
from PIL import Image
from pycocotools import mask as rle_codec

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference import outputs, versions, video, web_images
from jaxmaskrcnn.inference import predict as predicting
from jaxmaskrcnn.inference.classes import choose_classes
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.inference.stream import WORKERS, ordered_futures
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.utils.files import complete_path
from jaxmaskrcnn.visualize import comparison
from jaxmaskrcnn.visualize.colours import ColourTracker
from jaxmaskrcnn.visualize.comparison import draw_comparison
from jaxmaskrcnn.visualize.drawing import draw_detections, palette_colour
from jaxmaskrcnn.zoo.lookup import model_config

CATEGORIES = (Category(3, "cat"), Category(17, "dog"), Category(90, "eel"))


@pytest.fixture(scope="module")
def model():
    return Stub(
        model_config(
            "jaxmaskrcnn/shapes",
            num_classes=3,
            categories=CATEGORIES,
            **{"input.test_min_size": 64, "input.test_max_size": 96},
        )
    )


@pytest.fixture
def predict(model, tmp_path, monkeypatch):
    """Runs the command with a quick detector; its output is in the folder ``out``."""
    # The command loads a model by its path; a detector that computes nothing has none.
    monkeypatch.setattr(predicting, "load_model", lambda *_, **__: run.model)

    def run(*inputs, **options):
        flags = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
        output = f"--output={tmp_path / 'out'}"
        return command(
            ["predict", *map(str, inputs), "--checkpoint=any", output, "--score_threshold=0.2", *flags]
        )

    run.model = model
    return run


def pixels(seed, height=50, width=70):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(pixels(i)).save(tmp_path / "in" / f"{i}.png")
    return tmp_path / "in"


def written(tmp_path):
    return sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())


def results(tmp_path):
    return json.loads((tmp_path / "out" / "predictions.json").read_text())


# -- streams


def test_a_stream_takes_few_pictures_at_a_time_and_keeps_their_order(model):
    """Also where one of a rare shape waits for others like it."""
    images = [pixels(i, *((70, 50) if i == 5 else (50, 70))) for i in range(80)]
    taken, most = 0, 0

    def source():
        nonlocal taken
        for image in images:
            taken += 1
            yield image

    predictor = Predictor(model, 0.2, max_batch=2)
    for count, prediction in enumerate(predictor.stream(source(), masks="rle")):
        most = max(most, taken - count)
        assert prediction.index == count and prediction.pixels is images[count]
        if count in (4, 5, 6):
            expected = predictor(images[count], masks="rle")
            np.testing.assert_allclose(prediction.result["boxes"], expected["boxes"], atol=1e-3)
            assert prediction.result["masks"] == expected["masks"]
    assert count == 79
    assert most <= WORKERS + 2 + 4 * 2 + 3 * 2 + 4 < 60


def test_a_stream_that_nobody_reads_to_its_end_stops(model):
    stream = Predictor(model, 0.2).stream(pixels(i) for i in range(10**9))
    assert next(stream).index == 0
    stream.close()


def test_work_in_threads_is_handed_out_in_order_a_little_ahead():
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    for i, future in enumerate(ordered_futures(lambda x: x * x, items(), workers=3, ahead=4)):
        assert future.result() == i * i and len(taken) <= i + 5


# -- files


def test_every_format_is_written_for_every_image(predict, folder, tmp_path, capsys):
    assert predict(folder, format="png,json,labelme,geojson,masks") == 0
    each = ("{}.png", "labelme/{}.json", "geojson/{}.geojson", "masks/{}.png", "masks/{}.json")
    assert written(tmp_path) == sorted(["predictions.json", *(p.format(i) for i in range(3) for p in each)])
    content = results(tmp_path)
    assert content["categories"] == [c._asdict() for c in CATEGORIES]
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert content["images"][0] == {
        "id": 1, "file_name": str(folder / "0.png"), "height": 50, "width": 70, "picture": "0.png",
        "labelme": "labelme/0.json", "geojson": "geojson/0.geojson", "masks": "masks/0.png",
    }  # fmt: skip
    for image in content["images"]:
        mine = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        assert len(mine) == 4
        shapes = json.loads((tmp_path / "out" / image["labelme"]).read_text())["shapes"]
        assert {shape["label"] for shape in shapes} == {entry["category_name"] for entry in mine}
        features = json.loads((tmp_path / "out" / image["geojson"]).read_text())["features"]
        assert [f["properties"]["score"] for f in features] == [entry["score"] for entry in mine]
        legend = json.loads((tmp_path / "out" / image["masks"]).with_suffix(".json").read_text())
        values = np.asarray(Image.open(tmp_path / "out" / image["masks"]))
        assert values.shape == (50, 70) and {*np.unique(values)} <= {0, *(one["value"] for one in legend)}
    assert "12 objects in 3 images; png, json, labelme, geojson, masks in" in capsys.readouterr().out


@pytest.mark.slow
def test_outlines_can_have_fewer_vertices(predict, folder, tmp_path):
    counts = []
    for tolerance in (0, 1):
        assert predict(folder / "0.png", format="labelme,geojson", polygon_tolerance=tolerance) == 0
        shapes = json.loads((tmp_path / "out" / "labelme" / "0.json").read_text())["shapes"]
        features = json.loads((tmp_path / "out" / "geojson" / "0.geojson").read_text())["features"]
        vertices = [len(shape["points"]) for shape in shapes]
        assert vertices == [len(f["geometry"]["coordinates"][0]) - 1 for f in features]
        counts.append(sum(vertices))
    assert counts[1] < counts[0] / 2


@pytest.mark.slow
def test_labelme_files_of_images_in_several_folders_are_imported(predict, folder, tmp_path, capsys):
    """Two of one name; the json says where its image is."""
    (folder / "deeper").mkdir()
    Image.fromarray(pixels(9, 40, 60)).save(folder / "deeper" / "0.png")
    assert predict(folder / "0.png", folder / "deeper" / "0.png", format="labelme,json") == 0
    assert written(tmp_path) == ["labelme/0-2.json", "labelme/0.json", "predictions.json"]
    back = tmp_path / "back.json"
    source = str(tmp_path / "out" / "labelme")
    assert command(["import", source, "--format=labelme", f"--images={folder}", f"--output={back}"]) == 0
    content = json.loads(back.read_text())
    assert {i["file_name"]: (i["height"], i["width"]) for i in content["images"]} == {
        "0.png": (50, 70), "deeper/0.png": (40, 60)
    }  # fmt: skip
    assert len(content["annotations"]) == len(results(tmp_path)["annotations"])


def test_what_is_written_is_imported_and_inspected(predict, folder, tmp_path, capsys):
    """Nobody has to say where the images are: labelme's paths count from the json's folder."""
    assert predict(folder, format="labelme,json") == 0
    back = tmp_path / "elsewhere" / "back.json"
    source = str(tmp_path / "out" / "labelme")
    assert command(["import", source, "--format=labelme", f"--output={back}"]) == 0
    look = capsys.readouterr().out.splitlines()[-1].partition("python -m jaxmaskrcnn ")[2].split()
    assert command([*look, "--count=0"]) == 0
    assert "12 of 3 classes" in (told := capsys.readouterr().out) and "No problems" in told
    assert (
        command(["inspect", str(tmp_path / "out" / "predictions.json"), f"--images={folder}", "--count=0"])
        == 0
    )
    assert "12 of 3 classes" in (told := capsys.readouterr().out) and "No problems" in told
    # The masks are the detector's, but for their holes, which labelme cannot have.
    files = {image["id"]: image["file_name"].rpartition("/")[2] for image in results(tmp_path)["images"]}
    content = json.loads(back.read_text())
    drawn = {image["id"]: image for image in content["images"]}
    areas: dict[str, list] = {}
    for entry in content["annotations"]:
        image = drawn[entry["image_id"]]
        rle = rle_codec.merge(rle_codec.frPyObjects(entry["segmentation"], image["height"], image["width"]))
        areas.setdefault(image["file_name"].rpartition("/")[2], []).append(int(rle_codec.area(rle)))
    for entry in results(tmp_path)["annotations"]:
        found = areas[files[entry["image_id"]]]
        assert any(area == pytest.approx(entry["area"], rel=0.1, abs=4) for area in found)


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_done(predict, folder, tmp_path, capsys):
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:99])
    (folder / "0.png").write_bytes(b"")
    assert predict(folder, format="masks,json") == 2
    printed = capsys.readouterr()
    assert [line.split(" cannot")[0] for line in printed.err.splitlines()] == [
        f"jaxmaskrcnn predict: {folder / name}" for name in ("0.png", "1.png")
    ]
    assert written(tmp_path) == ["masks/2.json", "masks/2.png", "predictions.json"]
    assert [image["file_name"] for image in results(tmp_path)["images"]] == [str(folder / "2.png")]
    assert printed.out.startswith("4 objects in 1 image;")


def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing_half(
    predict, folder, tmp_path, capsys, monkeypatch
):
    (tmp_path / "out").write_text("a file")
    assert predict(folder) == 2
    assert "out cannot be written (File exists); give another --output." in capsys.readouterr().err
    (tmp_path / "out").unlink()

    def full(*_):
        raise OSError(28, "No space left on device", "the disk")

    # Stands for a full disk.
    monkeypatch.setattr(outputs, "instance_legend", full)
    assert predict(folder, format="json,masks") == 2
    assert "the disk cannot be written (No space left on device)" in capsys.readouterr().err
    assert all(name.startswith("masks/") and name.endswith(".png") for name in written(tmp_path))
    with pytest.raises(ZeroDivisionError), complete_path(tmp_path / "half.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert not [path for path in tmp_path.iterdir() if "half" in path.name]


@pytest.mark.slow
def test_classes_are_chosen_by_name_or_id(predict, folder, tmp_path, capsys):
    assert predict(folder / "0.png", classes="Dog,90", format="json") == 0
    assert {entry["category_name"] for entry in results(tmp_path)["annotations"]} == {"dog", "eel"}
    assert predict(folder / "0.png", classes="dgo", format="json") == 2
    said = capsys.readouterr().err
    assert "no class 'dgo' (did you mean 'dog'?); it has cat (3), dog (17), eel (90)." in said
    many = [Category(i, f"class {i}") for i in range(1, 131)]
    with pytest.raises(UserError, match=r"class 100 \(100\) and 30 more\."):
        choose_classes(many, ["x"])
    # A name that looks like a number, and an id.
    digits = [Category(1, "7"), Category(7, "x"), Category(9, "9")]
    assert choose_classes(digits, ["7", 9]).tolist() == [False, True, True]
    with pytest.raises(UserError, match="No class is given"):
        choose_classes(many, [])
    with pytest.raises(UserError, match=r"The classes are '12', one text; give a list, such as \['12'\]"):
        choose_classes(many, "12")


@pytest.mark.slow
def test_tiles_and_versions_go_with_every_format(predict, folder, tmp_path, monkeypatch, capsys):
    Image.fromarray(pixels(7, 90, 150)).save(folder / "large.png")
    assert predict(folder, tile=80, tile_overlap=16, format="json") == 0
    tiled = results(tmp_path)
    assert predict(folder, format="json") == 0
    plain = results(tmp_path)

    def of(content, name):
        key = next(i["id"] for i in content["images"] if i["file_name"].endswith(name))
        return [{**a, "id": 0} for a in content["annotations"] if a["image_id"] == key]

    for i in range(3):  # each fits into one tile
        assert of(tiled, f"{i}.png") == of(plain, f"{i}.png")
    assert of(tiled, "large.png") != of(plain, "large.png")
    assert all(a["segmentation"]["size"] == [90, 150] for a in of(tiled, "large.png"))

    made = []
    # The stub has no layers that such a predictor could run; only the arguments are checked here.
    monkeypatch.setattr(
        versions, "AugmentedPredictor", lambda *a, **k: made.append(k) or Predictor(a[0], a[1])
    )
    assert predict(folder, tta=True, tta_scales="0.5,2", tile=80, format="json") == 0
    assert made == [{"scales": [0.5, 2.0], "classes": None, "thresholds": None}]


def test_mistakes_are_one_sentence(predict, folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(b"")
    # The mistakes are found before a video is read, whether or not PyAV is installed.
    monkeypatch.setattr(video, "require_reader", lambda: None)
    for inputs, options, said in (
        ([folder], {"format": "jpg"}, "--format has 'jpg'"),
        ([folder], {"tile": 8}, "tile size is 8"),
        ([folder], {"polygon_tolerance": -1}, "--polygon_tolerance is -1"),
        ([folder], {"polygon_tolerance": 1}, "--polygon_tolerance has no effect without polygons"),
        ([folder], {"format": "csv", "no_labels": True}, "--no_labels has no effect without pictures"),
        ([folder], {"format": "csv", "no_boxes": True}, "--no_boxes has no effect without pictures"),
        ([folder], {"format": "json", "line_width": 3}, "--line_width has no effect without pictures"),
        ([folder], {"format": "json", "text_scale": 2}, "--text_scale has no effect without pictures"),
        ([folder], {"tile_overlap": 8}, "--tile_overlap has no effect without --tile"),
        ([folder], {"tta": True, "tta_scales": "1,big"}, "--tta_scales is '1,big'"),
        ([folder], {"tta_scales": "1,2"}, "--tta_scales has no effect without --tta"),
        ([folder], {"tta": True, "batch_size": 2}, "--batch_size has no effect with --tta"),
        ([tmp_path / "clip.mp4"], {}, "clip.mp4 is a video; give --video"),
        ([folder], {"video": True}, "holds no videos"),
        ([folder], {"video": True, "format": "labelme"}, "has 'labelme', which is for image files"),
        ([folder], {"video": True, "annotations": "a.json"}, "--annotations is for images"),
        ([folder], {"annotations": tmp_path / "absent.json"}, "absent.json"),
        (
            [folder],
            {"score_threshold": 2},
            "--score_threshold is 2; give a probability from 0 to 1, or 'saved'",
        ),
        ([folder], {"score_threshold": "high"}, "--score_threshold is high"),
        ([folder], {"pixel_size": "1um"}, "--pixel_size has no effect without tables"),
        ([folder], {"pixel_size": "1", "format": "csv"}, "--pixel_size is '1'"),
        ([folder], {"line_width": 0}, "The width of lines is 0"),
        ([folder], {"text_scale": 99}, "The scale of text is 99"),
        ([folder], {"font": "absent.ttf"}, "The font absent.ttf cannot be read"),
        ([folder], {"track": True}, "--track follows objects over the frames of a video; give --video"),
        ([folder], {"trail": 5}, "--trail has no effect without --track"),
        ([folder], {"video": True, "trail": 0}, "--trail has no effect without --track"),
        ([folder], {"video": True, "count_line": "1,2,3,4"}, "--count_line has no effect without --track"),
        (
            [folder],
            {"video": True, "track": True, "count_line": "1,2"},
            "--count_line is '1,2'; give X0,Y0,X1,Y1",
        ),
        ([folder], {"video": True, "track": True, "track_memory": -1}, "The memory of tracks is -1"),
        ([folder], {"video": True, "resume": True}, "--resume is for images"),
    ):
        assert predict(*inputs, **options) == 2
        printed = capsys.readouterr()
        assert said in printed.err and len(printed.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_goes_on_after_an_interruption(predict, folder, tmp_path, monkeypatch, capsys):
    formats = "png,json,csv"
    assert predict(folder, format=formats) == 0
    whole = {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path)}
    assert sorted(whole) == ["0.png", "1.png", "2.png", "counts.csv", "objects.csv", "predictions.json"]
    for name in whole:
        (tmp_path / "out" / name).unlink()
    assert predict(folder, format=formats, resume=True) == 2
    assert "holds no interrupted run" in capsys.readouterr().err

    write = outputs.Outputs.write
    done = []

    def interrupted(self, pixels, result, image, name):
        if name == "1":
            raise KeyboardInterrupt
        done.append(name)
        return write(self, pixels, result, image, name)

    with monkeypatch.context() as patch:
        patch.setattr(outputs.Outputs, "write", interrupted)  # nobody presses Ctrl-C in a test
        assert predict(folder, format=formats) == 130
    assert "predictions.json" not in written(tmp_path) and "predictions.part.jsonl" in written(tmp_path)
    assert predict(folder, format=formats, resume=True, colour_by="class") == 2
    assert "had another colour_by ('object' in the place of 'class')" in capsys.readouterr().err
    assert predict(folder / "1.png", format=formats, resume=True) == 2
    assert "0.png, which is not among the inputs" in capsys.readouterr().err

    again = []

    def counted(self, pixels, result, image, name):
        again.append(name)
        return write(self, pixels, result, image, name)

    with monkeypatch.context() as patch:
        patch.setattr(outputs.Outputs, "write", counted)
        assert predict(folder, format=formats, resume=True) == 0
    assert sorted(again) == ["1", "2"]
    assert {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path)} == whole


@contextlib.contextmanager
def served(folder):
    """A server of the files of a folder on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_images_are_fetched_from_addresses(predict, folder, tmp_path, capsys, monkeypatch):
    with served(folder) as address:
        inputs = [f"{address}/0.png", folder / "1.png", f"{address}/0.png", f"{address}/2.png?size=large"]
        assert predict(*inputs, format="png,json") == 0
        names = [image["file_name"] for image in results(tmp_path)["images"]]
        assert names == [f"{address}/0.png", str(folder / "1.png"), f"{address}/2.png?size=large"]
        assert written(tmp_path) == ["0.png", "1.png", "2.png", "predictions.json"]
        own = results(tmp_path)["annotations"]
        assert predict(folder, format="json") == 0
        assert [a["bbox"] for a in results(tmp_path)["annotations"]] == [a["bbox"] for a in own]
        assert predict(f"{address}/absent.png") == 2
        assert "absent.png cannot be fetched (404 File not found); check" in capsys.readouterr().err
        monkeypatch.setattr(web_images, "MOST", 10)  # a gigabyte would take a while
        assert predict(f"{address}/0.png") == 2
        assert "0.png has more than 10 bytes" in capsys.readouterr().err
    assert predict(f"{address}/0.png") == 2
    assert "0.png cannot be fetched" in capsys.readouterr().err


@pytest.mark.slow
def test_pictures_without_labels_or_boxes(predict, folder, tmp_path):
    def drawn(**options):
        assert predict(folder / "0.png", format="png", **options) == 0
        return np.asarray(Image.open(tmp_path / "out" / "0.png")).astype(int)

    plain = drawn()
    assert (drawn(no_labels=True) != plain).any() and (drawn(line_width=9) != plain).any()
    assert (drawn(text_scale=2) != plain).any()
    predict.model = Stub(
        model_config("jaxmaskrcnn/shapes", num_classes=3, categories=CATEGORIES, **{"mask": None})
    )
    nothing = drawn(no_labels=True, no_boxes=True)
    enlarged = Image.open(folder / "0.png").resize(nothing.shape[1::-1], Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(nothing, np.asarray(enlarged))
    assert (drawn(no_labels=True) != nothing).any()


@pytest.mark.slow
def test_missing_masks_are_reported(predict, folder, capsys):
    predict.model = Stub(model_config("jaxmaskrcnn/shapes", num_classes=1, **{"mask": None}))
    assert predict(folder, format="masks") == 2
    assert "the model has no mask head" in capsys.readouterr().err
    assert predict(folder, format="png,json,labelme,geojson", tile=40) == 0


# -- beside each other


def truth_json(path, names):
    box = {"bbox": [10, 10, 20, 30], "area": 600, "iscrowd": 0, "category_id": 17,
           "segmentation": [[10, 10, 30, 10, 30, 40, 10, 40]]}  # fmt: skip
    content = {
        "images": [{"id": i, "file_name": name, "height": 50, "width": 70} for i, name in enumerate(names)],
        "annotations": [{**box, "id": 1, "image_id": 0}, {**box, "id": 2, "image_id": 0, "iscrowd": 1}],
        "categories": [{"id": 17, "name": "dog"}],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
def test_annotations_are_drawn_beside_detections(predict, folder, tmp_path, monkeypatch, capsys):
    drawn = []
    draw = comparison.draw_detections

    def record(image, side, names, **options):
        drawn.append((side, names))
        return draw(image, side, names, **options)

    # What is drawn cannot be read back from a picture.
    monkeypatch.setattr(comparison, "draw_detections", record)
    truth = truth_json(tmp_path / "truth.json", ["0.png", "1.png"])
    assert predict(folder / "0.png", annotations=truth) == 0
    assert capsys.readouterr().out.startswith("4 objects in 1 image; png, json in ")
    (left, names), (right, _) = drawn
    assert [names[label] for label in left["labels"]] == ["dog", "dog (crowd)"] and names[3] == "cat"
    assert len(right["scores"]) == 4
    with Image.open(tmp_path / "out" / "0.png") as picture:
        assert picture.size[0] > 2 * 280  # two of them, enlarged fourfold
    assert predict(folder, annotations=truth) == 2
    assert "truth.json has no image 2.png; give the annotations of all images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_without_names_has_those_of_the_annotations(predict, folder, tmp_path, capsys):
    predict.model = Stub(model_config("jaxmaskrcnn/shapes", num_classes=1))
    truth = truth_json(tmp_path / "truth.json", ["0.png"])
    assert predict(folder / "0.png", annotations=truth) == 0
    assert results(tmp_path)["categories"] == [{"id": 17, "name": "dog"}]
    content = json.loads(truth.read_text())
    content["categories"].append({"id": 18, "name": "eel"})
    truth.write_text(json.dumps(content))
    predict.model = Stub(model_config("jaxmaskrcnn/shapes", num_classes=1))
    assert predict(folder / "0.png", annotations=truth) == 2
    said = capsys.readouterr().err
    assert f"The model has 1 class without names, but the annotations {truth} have 2 categories;" in said


def test_what_is_in_the_same_place_has_the_same_colour_on_both_sides():
    image = np.full((660, 700, 3), 128, np.uint8)
    truth = {"boxes": [[10, 100, 200, 300], [400, 100, 600, 300]], "labels": [1, 1]}
    out = {"boxes": [[405, 105, 600, 300], [10, 400, 200, 600]], "labels": [1, 1], "scores": [0.9, 0.8]}
    picture = np.asarray(draw_comparison(image, truth, out, {1: ""}, score_threshold=0.3)).astype(int)
    half = picture.shape[1] // 2
    top = picture.shape[0] - 660

    def has(x, y, number):
        part = picture[top + y : top + y + 5, x : x + 5]
        return (np.abs(part - palette_colour(number)) < 4).all(-1).any()

    right = picture.shape[1] - 700
    assert has(10, 200, 0) and has(400, 200, 1)
    assert has(right + 405, 200, 1) and has(right + 10, 500, 2)  # made up: a colour of its own
    assert right > half - 5
    single = np.asarray(draw_detections(image, {**truth, "boxes": truth["boxes"]}, {1: ""}))
    np.testing.assert_array_equal(picture[top:, :700], single)
    wide = draw_comparison(np.zeros((200, 640, 3), np.uint8), truth, out)
    assert wide.size[0] == 640 and wide.size[1] > 400  # below each other


def test_pictures_beside_annotations_without_detections_and_of_panoptic_results():
    image = np.full((48, 64, 3), 128, np.uint8)
    truth = {"boxes": [[8, 8, 50, 40]], "labels": [1]}
    none = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "scores": np.zeros(0)}
    empty = np.asarray(draw_comparison(image, truth, none, {1: "cat"}))
    assert (
        empty.shape == np.asarray(draw_comparison(image, truth, {**truth, "scores": [0.9]}, {1: "cat"})).shape
    )
    of_image = {"panoptic": np.ones((48, 64), np.int32), "segments": [{"id": 1, "category": 9}]}
    np.testing.assert_array_equal(draw_comparison(image, truth, {**none, **of_image}, {1: "cat"}), empty)


def test_segments_need_a_panoptic_model_and_their_format(predict, folder, capsys):
    assert predict(folder, format="png,panoptic") == 2
    assert "--format has 'panoptic', but the model has no semantic head" in capsys.readouterr().err
    predict.model = Stub(model_config("jaxmaskrcnn/landscapes"))
    name = predict.model.config.known_stuff()[0].name
    assert predict(folder, classes=name, format="json") == 2
    assert (
        f"--classes has '{name}', a class of stuff, which is not in what is written"
        in capsys.readouterr().err
    )


# -- videos


def test_objects_keep_their_colours_from_frame_to_frame():
    tracker = ColourTracker()

    def colours(*boxes, labels=None):
        found = tracker({"boxes": np.float32(boxes).reshape(-1, 4), "labels": labels or [1] * len(boxes)})
        return [next(i for i in range(72) if palette_colour(i) == colour) for colour in found]

    a, b, c = [0, 0, 10, 10], [50, 50, 70, 70], [20, 0, 30, 10]
    assert colours(a, b) == [0, 1]
    assert colours([52, 50, 72, 70], [1, 0, 11, 10]) == [1, 0]  # moved, and in another order
    assert colours([54, 50, 74, 70], c, [2, 0, 12, 10]) == [1, 2, 0]  # a new one
    assert colours(c) == [2]
    assert colours(a, c) == [0, 2]  # its own colour was free again
    assert colours(c, labels=[2]) == [1]  # another class
    assert colours() == [] and colours(b) == [0]


def test_two_objects_do_not_take_one_colour():
    tracker = ColourTracker()
    tracker({"boxes": [[0, 0, 10, 10]], "labels": [1]})
    found = tracker({"boxes": [[0, 0, 9, 10], [0, 0, 10, 9]], "labels": [1, 1]})
    assert found == [palette_colour(0), palette_colour(1)]


def test_a_missing_reader_is_one_sentence_with_the_command(predict, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)  # stands for a library that is not installed
    assert predict(tmp_path / "clip.mp4", video=True) == 2
    assert capsys.readouterr().err.endswith("PyAV, which is missing; install it: pip install av\n")


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("av", reason="videos are read with PyAV (pip install av)")
    path = tmp_path / "clip.mp4"
    with video.VideoWriter(path, Fraction(10)) as writer:
        for i in range(12):
            frame = np.full((65, 91, 3), 40, np.uint8)  # odd sides
            frame[20:40, 5 * i : 5 * i + 20] = 200
            writer.add(frame)
    return path


def test_frames_are_written_and_read(clip):
    reader = video.VideoReader(clip)
    frames = list(reader)
    assert len(frames) == reader.count == 12 and reader.rate == 10
    assert [round(frame.seconds, 3) for frame in frames] == [i / 10 for i in range(12)]
    assert all(frame.pixels.shape == (64, 90, 3) and frame.pixels.dtype == np.uint8 for frame in frames)
    for i, frame in enumerate(frames):
        assert (
            abs(int(frame.pixels[30, 5 * i + 10, 0]) - 200) < 12 and abs(int(frame.pixels[5, 5, 0]) - 40) < 12
        )


@pytest.mark.parametrize(
    "matrix, corner",
    [
        ((0, 1, 0, -1, 0, 0, 64, 0), (0, -1)),  # a phone held upright: its lines run down the picture
        ((0, -1, 0, 1, 0, 0, 0, 90), (-1, 0)),
        ((-1, 0, 0, 0, -1, 0, 90, 64), (-1, -1)),
    ],
)
def test_videos_are_turned_upright(clip, matrix, corner):
    """The matrix of an mp4's track header says where the players put the upper left corner."""
    with video.VideoWriter(clip, Fraction(10)) as writer:
        for _ in range(3):
            frame = np.full((64, 90, 3), 40, np.uint8)
            frame[:20, :30] = 220
            writer.add(frame)
    content = bytearray(clip.read_bytes())
    place = content.index(b"tkhd") + 44  # behind version, times, number, layer and volume
    assert struct.unpack(">9i", content[place : place + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    content[place : place + 36] = struct.pack(">9i", *(65536 * value for value in matrix), 1 << 30)
    clip.write_bytes(content)
    frames = list(video.VideoReader(clip))
    assert len(frames) == 3
    for frame in frames:
        assert frame.pixels.shape == ((64, 90, 3) if matrix[0] else (90, 64, 3))
        corners = frame.pixels[..., 0][np.ix_((5, -5), (5, -5))].astype(int)
        expected = np.full((2, 2), 40)
        expected[corner] = 220
        assert np.abs(corners - expected).max() < 12


def test_a_video_becomes_a_video(predict, clip, tmp_path, capsys):
    assert predict(clip, video=True, format="png,json,geojson,masks") == 0
    frames = list(video.VideoReader(tmp_path / "out" / "clip.mp4"))
    assert len(frames) == 12 and frames[0].pixels.shape == (64 * 4, 90 * 4, 3)  # enlarged, as pictures are
    content = results(tmp_path)
    assert [(i["frame"], i["seconds"]) for i in content["images"]] == [
        (i, pytest.approx(i / 10)) for i in range(12)
    ]
    assert content["images"][3]["geojson"] == "geojson/clip_000003.geojson"
    assert all((tmp_path / "out" / image["masks"]).is_file() for image in content["images"])
    assert f"{len(content['annotations'])} objects in 12 frames" in capsys.readouterr().out


def test_objects_of_a_video_are_followed(predict, clip, tmp_path, capsys):
    """The stub detects the same places in every frame, so that their objects keep their numbers."""
    options = {
        "video": True,
        "track": True,
        "count_region": "0,0,90,0,90,64,0,64",
        "count_line": "45,0,45,64",
    }
    assert predict(clip, **options, format="png,json,csv") == 0
    content = results(tmp_path)
    first = [a["track_id"] for a in content["annotations"] if a["image_id"] == 1]
    assert first == list(range(1, len(first) + 1))
    for image in content["images"]:
        own = [a["track_id"] for a in content["annotations"] if a["image_id"] == image["id"]]
        assert set(own) <= set(first) and image["regions"] == [len(own)] and image["lines"] == [[0, 0]]
    out = capsys.readouterr().out
    assert (
        f"clip.mp4, region 1: {len(first)} objects" in out and "line 1: 0 to the right, 0 to the left" in out
    )
    rows = (tmp_path / "out" / "objects.csv").read_text(encoding="utf-8-sig").splitlines()
    assert rows[0].startswith("file,frame,seconds,track,id,") and len(rows) == len(content["annotations"]) + 1
    # Lines and numbers are drawn.
    drawn = next(iter(video.VideoReader(tmp_path / "out" / "clip.mp4"))).pixels
    assert predict(clip, video=True, format="png") == 0
    plain = next(iter(video.VideoReader(tmp_path / "out" / "clip.mp4"))).pixels
    assert (drawn[:, 4 * 45].min(-1) > 230).mean() > (plain[:, 4 * 45].min(-1) > 230).mean() + 0.5


def test_videos_that_cannot_be_read_are_told(predict, clip, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert predict(tmp_path / "broken.mp4", clip, video=True, format="json") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "broken.mp4 cannot be read as a video (Invalid data found" in said[0]
    assert len(results(tmp_path)["images"]) == 12


def test_a_video_that_breaks_off_is_written_as_far_as_it_goes(predict, clip, tmp_path, monkeypatch, capsys):
    whole = video.VideoReader.__iter__

    def broken(self):
        for number, frame in enumerate(whole(self)):
            if number == 5:
                raise UserError("clip.mp4 ends early.")
            yield frame

    with monkeypatch.context() as patch:
        # Decoders differ in how they report a truncated file, and many hide it.
        patch.setattr(video.VideoReader, "__iter__", broken)
        assert predict(clip, video=True) == 2
    assert "clip.mp4 ends early." in capsys.readouterr().err
    assert len(list(video.VideoReader(tmp_path / "out" / "clip.mp4"))) == 5
    assert len(results(tmp_path)["images"]) == 5
