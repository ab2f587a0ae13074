"""Detections name images and categories as the annotations do, or by the numbers that stand for them."""

import json
import uuid

import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.evaluation.coco import coco_metrics

HEIGHT, WIDTH = 40, 50
BOXES = [[4, 5, 20, 22], [20, 10, 24, 12]]


def uuid_of(i):
    return str(uuid.UUID(int=i + 77))


# How the annotations write the ids of image i and of category i, and how the detections do.
IDS = {
    "UUIDs": (uuid_of, lambda i: i, uuid_of, lambda i: i),
    "words": (lambda i: f"img_{i}", lambda i: i, lambda i: f"img_{i}", lambda i: i),
    "words by their numbers": (lambda i: f"img_{i}", lambda i: i, lambda i: i, lambda i: i),
    "texts": (str, str, str, str),
    "texts in the detections alone": (lambda i: i, lambda i: i, str, str),
    "texts in the annotations alone": (str, str, lambda i: i, lambda i: i),
    "floats": (float, float, float, float),
    "file names": (lambda i: f"{i}.png", lambda i: i, lambda i: f"{i}.png", lambda i: i),
    "names of categories": (lambda i: i, lambda i: i, lambda i: i, lambda i: f"class {i}"),
    "categories as words": (lambda i: i, lambda i: f"c-{i}", lambda i: i, lambda i: f"c-{i}"),
    "30 digits": (lambda i: 10**30 + i, lambda i: i, lambda i: 10**30 + i, lambda i: i),
}


def write_files(folder, image_id, category_id, detected_image, detected_category):
    images, annotations, detections = [], [], []
    (folder / "images").mkdir()
    for i, box in enumerate(BOXES, 1):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / f"{i}.png")
        images.append({"id": image_id(i), "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH})
        x, y, w, h = box
        ring = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append({
            "id": i, "image_id": image_id(i), "category_id": category_id(i), "bbox": box, "area": w * h,
            "iscrowd": 0, "segmentation": [ring],
        })  # fmt: skip
        rle = mask_utils.merge(mask_utils.frPyObjects([ring], HEIGHT, WIDTH))
        detections.append({
            "image_id": detected_image(i), "category_id": detected_category(i), "score": 0.9, "bbox": box,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
        })  # fmt: skip
    categories = [{"id": category_id(i), "name": f"class {i}"} for i in (1, 2)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "set.json").write_text(json.dumps(content))
    (folder / "detections.json").write_text(json.dumps(detections))
    return [
        "report", str(folder / "detections.json"), str(folder / "set.json"), f"--images={folder / 'images'}",
        f"--output={folder / 'page'}", "--pictures=1",
    ]  # fmt: skip


@pytest.mark.parametrize("case", IDS)
def test_ids_as_the_annotations_write_them(case, tmp_path, capsys):
    arguments = write_files(tmp_path, *IDS[case])
    assert command(arguments) == 0
    assert "2 detections of 2 images, mask AP 1.000" in capsys.readouterr().out
    detections = json.loads((tmp_path / "detections.json").read_text())
    assert coco_metrics(tmp_path / "set.json", detections)["mask_AP"] == pytest.approx(1)
    # Exchanged, nothing is right.
    first, second = detections
    first["image_id"], second["image_id"] = second["image_id"], first["image_id"]
    assert coco_metrics(tmp_path / "set.json", detections)["mask_AP"] == 0
    (tmp_path / "detections.json").write_text(json.dumps(detections))
    assert command(arguments) == 0
    assert "mask AP 0.000" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["img_9", "1.5", True, None, [1], {"id": 1}, 1e300])
@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_unknown_ids_are_refused(wrong, key, tmp_path, capsys):
    arguments = write_files(tmp_path, *IDS["words"])
    detections = json.loads((tmp_path / "detections.json").read_text())
    detections[1][key] = wrong
    (tmp_path / "detections.json").write_text(json.dumps(detections))
    assert command(arguments) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"detection 1{' (image img_2)' * (key == 'category_id')} names the {key} {wrong!r}, and" in error
    assert "set.json lists no such" in error


def test_one_class_for_all(tmp_path, capsys):
    arguments = write_files(tmp_path, *IDS["UUIDs"])
    detections = json.loads((tmp_path / "detections.json").read_text())
    for written, code in (("thing", 0), (1, 0), ("1", 0), (2, 2), ("class 1", 2)):
        text = json.dumps([entry | {"category_id": written} for entry in detections])
        (tmp_path / "detections.json").write_text(text)
        assert command([*arguments, "--class_name=thing"]) == code
        assert "mask AP 1.000" in capsys.readouterr().out or code
