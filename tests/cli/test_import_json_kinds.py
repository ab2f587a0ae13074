"""The jsons of ISAT, Segment Anything and COCO's panoptic task become the same objects here."""

import json
import re

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import masks, photograph
from PIL import Image
from pycocotools import mask as rle_codec

from jaxmaskrcnn.cli.main import main

WIDTH, HEIGHT = 40, 30


def box_mask(x0, y0, x1, y1):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def square(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def saved(folder, data, name="a.json", image="a.jpg"):
    photograph(folder / image, (WIDTH, HEIGHT))
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


# -- ISAT


def isat_object(category, group, points, layer=1.0, **more):
    return {
        "category": category, "group": group, "segmentation": points, "area": 1.0, "layer": layer,
        "bbox": [0, 0, 1, 1], "iscrowd": False, "note": "", **more,
    }  # fmt: skip


def isat(objects, **info):
    head = {"description": "ISAT", "folder": "/home/me", "name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    return {"info": {**head, "depth": 3, "note": "", **info}, "objects": objects}


def test_isat(tmp_path, capsys):
    objects = [
        isat_object("dog", 2, square(20, 5, 30, 15), 3.0),
        isat_object("cat", 1, square(1, 2, 5, 6), 1.0),
        isat_object("cat", 1, square(8, 2, 12, 9), 1.0),  # the other half of the same cat
        isat_object("dog", 1, square(30, 20, 38, 28), 2.0),  # the group's number, but another class
        isat_object("cat", None, square(1, 20, 4, 25), 4.0),
        isat_object("cat", "", square(6, 20, 9, 25), 5.0),
        isat_object("herd", 9, square(15, 20, 25, 25), 6.0, iscrowd=1),
        isat_object("__background__", 3, square(0, 0, 39, 29), 0.0),
    ]
    path = saved(tmp_path / "set", isat(objects))
    content = run(tmp_path, path.parent, "isat")
    found = [(n, a["iscrowd"]) for _, n, a in flat(content)]
    assert found == [("cat", 0), ("dog", 0), ("dog", 0), ("cat", 0), ("cat", 0), ("herd", 1)]
    shapes = masks(content)
    both = box_mask(1, 2, 5, 6) | box_mask(8, 2, 12, 9)
    cats = [both, box_mask(1, 20, 4, 25), box_mask(6, 20, 9, 25)]
    np.testing.assert_array_equal(shapes["a.jpg", "cat"], cats)
    np.testing.assert_array_equal(shapes["a.jpg", "dog"], [box_mask(30, 20, 38, 28), box_mask(20, 5, 30, 15)])
    assert "1 polygons of ISAT's '__background__' are left out" in capsys.readouterr().out


def test_isat_finds_a_folder_of_images(tmp_path):
    path = saved(tmp_path / "set" / "labels", isat([isat_object("cat", 1, square(1, 2, 5, 6))]))
    (tmp_path / "set" / "images").mkdir()
    (path.parent / "a.jpg").rename(tmp_path / "set" / "images" / "a.jpg")
    assert len(run(tmp_path, path.parent, "isat")["annotations"]) == 1


def one_isat(**changes):
    return isat([isat_object("cat", 1, square(1, 1, 9, 9)) | changes])


# -- Segment Anything


def encoded(mask):
    rle = rle_codec.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def sam(annotations, **image):
    head = {"image_id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "a.jpg"}
    return {"image": head | image, "annotations": annotations}


def sam_object(mask, **changes):
    return {
        "id": 5, "bbox": [1, 2, 3, 4], "area": int(mask.sum()), "segmentation": encoded(mask),
        "predicted_iou": 0.9, "stability_score": 0.9, "crop_box": [0, 0, 1, 1], "point_coords": [[1, 1]],
    } | changes  # fmt: skip


def test_segment_anything(tmp_path):
    shapes = [box_mask(1, 2, 9, 9), box_mask(5, 5, 40, 30) & (np.arange(WIDTH) % 3 > 0)]
    path = saved(tmp_path / "set", sam([sam_object(mask) for mask in shapes]), "sa_1.json")
    content = run(tmp_path, path.parent, "sam")
    assert [c["name"] for c in content["categories"]] == ["object"]
    np.testing.assert_array_equal(masks(content)["a.jpg", "object"], shapes)
    assert content["annotations"][0]["bbox"] == [1, 2, 8, 7]  # the mask's own
    assert run(tmp_path, path, "sam", "--class_name=part")["categories"][0]["name"] == "part"


# -- panoptic


NUMBERS = {3: box_mask(0, 0, 40, 12), 300: box_mask(2, 14, 12, 24), 70000: box_mask(15, 14, 20, 24),
           5 * 65793: box_mask(22, 14, 30, 20), 8: box_mask(31, 20, 39, 28)}  # fmt: skip


def panoptic(**changes):
    segments = [
        {"id": 3, "category_id": 200, "iscrowd": 0}, {"id": 300, "category_id": 17, "iscrowd": 0},
        {"id": 70000, "category_id": 18, "iscrowd": 0}, {"id": 5 * 65793, "category_id": 18, "iscrowd": 0},
        {"id": 8, "category_id": 17, "iscrowd": 1},
    ]  # fmt: skip
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [
            {"id": 17, "name": "cat", "isthing": 1}, {"id": 18, "name": "dog", "isthing": 1},
            {"id": 200, "name": "sky", "isthing": 0},
        ],
    } | changes  # fmt: skip


def save_panoptic(folder, data, numbers=None, image="photos/a.jpg"):
    values = np.zeros((HEIGHT, WIDTH), np.int64)
    for number, mask in (NUMBERS if numbers is None else numbers).items():
        values[mask] = number
    path = saved(folder, data, "panoptic_val.json", image)
    (folder / "panoptic_val").mkdir(exist_ok=True)
    colours = np.stack([values % 256, values // 256 % 256, values // 65536], -1).astype(np.uint8)
    Image.fromarray(colours).save(folder / "panoptic_val" / "a.png")
    return path


def test_panoptic(tmp_path, capsys):
    path = save_panoptic(tmp_path / "set", panoptic())
    content = run(tmp_path, path, "panoptic", f"--images={path.parent / 'photos'}")
    assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
    assert [(n, a["iscrowd"]) for _, n, a in flat(content)] == [
        ("cat", 0), ("dog", 0), ("dog", 0), ("cat", 1),
    ]  # fmt: skip
    found = masks(content)
    np.testing.assert_array_equal(found["a.jpg", "cat"], [NUMBERS[300], NUMBERS[8]])
    np.testing.assert_array_equal(found["a.jpg", "dog"], [NUMBERS[70000], NUMBERS[5 * 65793]])
    chosen = run(tmp_path, path, "panoptic", f"--images={path.parent}", "--names=dog,sky,cow")
    assert [n for _, n, _ in flat(chosen)] == ["dog", "dog"]
    assert "not annotated" not in capsys.readouterr().out


def test_segments_that_the_json_does_not_list_are_told(tmp_path, capsys):
    data = panoptic()
    data["annotations"][0]["segments_info"].pop()
    run(tmp_path, save_panoptic(tmp_path / "set", data), "panoptic")
    assert "1 pictures have segments that the json does not list" in capsys.readouterr().out


def test_panoptic_pictures_are_no_photographs(tmp_path, capsys):
    path = save_panoptic(tmp_path / "set", panoptic())
    (path.parent / "photos" / "a.jpg").unlink()
    assert "'a.jpg', which is not in" in refused(tmp_path, capsys, path, "panoptic")


# -- what is wrong, and parts


def segments(**changes):
    data = panoptic()
    data["annotations"][0]["segments_info"][1] |= changes
    return data


def one_sam(**changes):
    return sam([sam_object(box_mask(1, 2, 9, 9)) | changes])


RLE = encoded(box_mask(1, 2, 9, 9))
BAD = {
    "isat: cut off": ("isat", '{"info": {', "not valid json"),
    "isat: a list": ("isat", [], "holds a list"),
    "isat: no objects": ("isat", {"info": {}}, "no 'info' and no list 'objects'"),
    "isat: no name": ("isat", isat([], name=3), "the name 3 in 'info'"),
    "isat: lost image": ("isat", isat([], name="gone.jpg"), "names the image 'gone.jpg'"),
    "isat: size": ("isat", isat([], width=41), "41 x 30"),
    "isat: size 0": ("isat", isat([], height=0), "an image of 40 x 0 pixels"),
    "isat: size as text": ("isat", isat([], width="wide"), "an image of 'wide' x 30 pixels"),
    "isat: text": ("isat", isat(["cat"]), "object 0 .None. is not an object"),
    "isat: far": ("isat", one_isat(segmentation=square(0, 0, 1e9, 5)), r"1e\+09, far from"),
    "isat: NaN": ("isat", one_isat(segmentation=square(0, 0, float("nan"), 5)), "the coordinate nan"),
    "isat: flat": ("isat", one_isat(segmentation=[1, 2, 3, 4, 5, 6]), "no list of points"),
    "isat: two points": ("isat", one_isat(segmentation=[[1, 2], [3, 4]]), "a polygon of 2 points"),
    "isat: no class": ("isat", one_isat(category=None), "has the class None"),
    "isat: crowd": ("isat", one_isat(iscrowd="maybe"), "the iscrowd 'maybe'"),
    "isat: layer": ("isat", one_isat(layer="top"), "the layer 'top'"),
    "sam: cut off": ("sam", '{"image"', "not valid json"),
    "sam: a number": ("sam", 3, "holds a int"),
    "sam: no image": ("sam", {"annotations": []}, "no 'image' and no list"),
    "sam: no name": ("sam", sam([], file_name=None), "the file_name None"),
    "sam: size": ("sam", sam([], width=41), "41 x 30"),
    "sam: text": ("sam", sam(["x"]), "annotation 0 has no RLE"),
    "sam: polygon": ("sam", one_sam(segmentation=[[1, 2, 3, 4, 5, 6]]), "annotation 5 has no RLE"),
    "sam: RLE of another size": ("sam", one_sam(segmentation=RLE | {"size": [3, 4]}), "an RLE of size"),
    "sam: cut RLE": ("sam", one_sam(segmentation=RLE | {"counts": RLE["counts"][:-2]}), "malformed RLE"),
    "sam: no RLE": ("sam", one_sam(segmentation=RLE | {"counts": "\u00e9"}), "malformed RLE"),
    "sam: no counts": ("sam", one_sam(segmentation={"size": [HEIGHT, WIDTH]}), "segmentation of type dict"),
    "sam: empty": ("sam", one_sam(segmentation=encoded(box_mask(0, 0, 0, 0))), "annotation 5"),
    "panoptic: no lists": ("panoptic", {"images": []}, "lacks 'images', 'annotations'"),
    "panoptic: a list": ("panoptic", [], "holds a list"),
    "panoptic: stuff": (
        "panoptic", panoptic(categories=[{"id": 17, "name": "cat"}]), "the category .*'isthing' .1 for",
    ),
    "panoptic: an id twice": (
        "panoptic", panoptic(categories=panoptic()["categories"] * 2), "an id of its own",
    ),
    "panoptic: stuff alone": (
        "panoptic", panoptic(categories=panoptic()["categories"][2:]), "no class with 'isthing' 1",
    ),
    "panoptic: image id": (
        "panoptic", panoptic(annotations=[{"image_id": 7}]), "annotation 0 has the image_id 7",
    ),
    "panoptic: no segments": (
        "panoptic", panoptic(annotations=[{"image_id": 1, "file_name": "a.png"}]), "no list 'segments_info'",
    ),
    "panoptic: lost picture": (
        "panoptic", panoptic(annotations=[{"image_id": 1, "file_name": "b.png", "segments_info": []}]),
        "b.png, which cannot be read .FileNotFound",
    ),
    "panoptic: size": (
        "panoptic", panoptic(images=[{"id": 1, "file_name": "a.jpg", "height": 31, "width": 40}]), "40 x 31",
    ),
    "panoptic: category": ("panoptic", segments(category_id=99), "segment 300 has the category_id 99"),
    "panoptic: no pixel": ("panoptic", segments(id=4), "segment 4 is there without a pixel"),
    "panoptic: twice": ("panoptic", segments(id=3), "segment 3 is there twice"),
    "panoptic: crowd": ("panoptic", segments(iscrowd="maybe"), "the iscrowd 'maybe'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_a_sentence(case, tmp_path, capsys):
    kind, data, words = BAD[case]
    folder = tmp_path / "set"
    path = save_panoptic(folder, data) if kind == "panoptic" else saved(folder, data)
    said = refused(tmp_path, capsys, path, kind)
    assert re.search(words, said) and str(folder) in said and said.count("\n") == 1, said


@pytest.mark.parametrize("kind", ["isat", "sam"])
def test_parts_by_fraction_with_the_output_among_the_sources(kind, tmp_path):
    folder = tmp_path / "set"
    for i in range(4):
        data = isat([isat_object("cat", 1, square(1, 1, 9, 9))], name=f"{i}.jpg")
        if kind == "sam":
            data = sam([sam_object(box_mask(1, 2, 9, 9))], file_name=f"{i}.jpg")
        saved(folder, data, f"{i}.json", f"{i}.jpg")
    for _ in range(2):
        output = f"--output={folder / 'x.json'}"
        assert main(["import", str(folder), f"--format={kind}", output, "--split=0.75,0.25"]) == 0
        parts = [json.loads((folder / f"x_{part}.json").read_text()) for part in ("train", "val")]
        assert [len(part["annotations"]) for part in parts] == [3, 1]


def test_panoptic_parts_by_fraction(tmp_path):
    data = panoptic()
    path = save_panoptic(tmp_path / "set", data)
    photograph(path.parent / "photos" / "b.jpg", (WIDTH, HEIGHT))
    data["images"].append({**data["images"][0], "id": 2, "file_name": "b.jpg"})
    data["annotations"].append({**data["annotations"][0], "image_id": 2})
    path.write_text(json.dumps(data))
    arguments = ["import", str(path), "--format=panoptic", f"--images={path.parent / 'photos'}"]
    assert main([*arguments, f"--output={tmp_path / 'x.json'}", "--split=0.5,0.5"]) == 0
    assert len(json.loads((tmp_path / "x_val.json").read_text())["annotations"]) == 4
