"""Folders and files as tools lay them out become the right images and objects, or are refused."""

import base64
import io
import json
import warnings

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from PIL import Image, ImageDraw
from pycocotools import mask as rle_codec

from jaxmaskrcnn.cli.main import main


def photograph(path, size=(40, 30), seed=0):
    """A picture of noise [H, W, 3] in a new folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def values(*regions, size=(40, 30)):
    """Values [H, W] of rectangles (value, x0, y0, x1, y1), ends excluded."""
    found = np.zeros((size[1], size[0]), np.int32)
    for value, x0, y0, x1, y1 in regions:
        found[y0:y1, x0:x1] = value
    return found


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint16) if array.max() > 255 else array.astype(np.uint8)).save(path)


def decode(shape):
    """A mask [H, W], by pycocotools."""
    with warnings.catch_warnings():  # pycocotools 2.0.11 with NumPy 2: __array__ without a copy argument
        warnings.simplefilter("ignore", DeprecationWarning)
        return rle_codec.decode(shape).astype(bool)


def masks(content):
    """The masks [H, W] of each image and class, by pycocotools."""
    found = {}
    sizes = {image["file_name"]: (image["height"], image["width"]) for image in content["images"]}
    for name, label, annotation in flat(content):
        shape = annotation["segmentation"]
        if isinstance(shape, list):
            shape = rle_codec.merge(rle_codec.frPyObjects(shape, *sizes[name]))
        elif isinstance(shape["counts"], list):
            shape = rle_codec.frPyObjects(shape, *shape["size"])
        found.setdefault((name, label), []).append(decode(shape))
    return found


TWO = values((1, 2, 3, 12, 9), (2, 20, 5, 33, 28))


def test_masks_find_the_images_beside_their_folder(tmp_path):
    for i in range(2):
        photograph(tmp_path / "set" / "images" / f"{i:04d}.jpg", seed=i)
        save(tmp_path / "set" / "masks" / f"{i:04d}.png", TWO)
    content = run(tmp_path, tmp_path / "set" / "masks", "masks", "--class_name=cell")
    assert [image["file_name"] for image in content["images"]] == ["0000.jpg", "0001.jpg"]
    for found in masks(content).values():
        np.testing.assert_array_equal(found, [TWO == 1, TWO == 2])


def test_an_image_is_never_its_own_mask(tmp_path, capsys):
    save(tmp_path / "masks" / "0001.png", TWO)
    said = refused(tmp_path, capsys, tmp_path / "masks", "masks", "--class_name=cell")
    assert "0001.png" in said and "image" in said


def test_images_and_masks_of_cellpose_in_one_folder(tmp_path):
    for i in range(2):
        photograph(tmp_path / "cp" / f"{i:03d}_img.png", seed=i)
        save(tmp_path / "cp" / f"{i:03d}_masks.png", TWO)
    content = run(tmp_path, tmp_path / "cp", "masks", "--class_name=cell")
    assert [image["file_name"] for image in content["images"]] == ["000_img.png", "001_img.png"]
    assert {key: len(found) for key, found in masks(content).items()} == {
        ("000_img.png", "cell"): 2, ("001_img.png", "cell"): 2,
    }  # fmt: skip


CODED = {
    # A region of several cars that were not told apart has the class alone.
    "cityscapes": ((26000, 26001, 24000, 26, 7), {"car": 3, "person": 1}),
    "kitti": ((26 * 256 + 1, 26 * 256 + 2, 24 * 256 + 1, 26 * 256, 7 * 256), {"car": 2, "person": 1}),
    "mots": ((1001, 1002, 2001, 10000, 2002), {"car": 2, "pedestrian": 2}),
}


@pytest.mark.parametrize("kind", CODED)
def test_values_that_hold_a_class(kind, tmp_path, capsys):
    numbers, counts = CODED[kind]
    coded = values(*((number, 7 * i, 2, 7 * i + 5, 20) for i, number in enumerate(numbers)))
    photograph(tmp_path / "images" / "a.png")
    save(tmp_path / "instance" / "a.png", coded)
    said = refused(tmp_path, capsys, tmp_path / "instance", "masks", "--class_name=thing")
    assert "look like a class and a number in one" in said and "--ids=" in said
    content = run(tmp_path, tmp_path / "instance", "masks", f"--ids={kind}")
    found = masks(content)
    assert {label: len(shapes) for (_, label), shapes in found.items()} == counts
    assert any(np.array_equal(shape, coded == numbers[0]) for shape in found["a.png", "car"])
    crowds = sorted(a["iscrowd"] for _, label, a in flat(content) if label == "car")
    assert crowds == ([0, 0, 1] if kind == "cityscapes" else [0, 0])


def test_mapillary_takes_the_names_of_its_json(tmp_path, capsys):
    labels = [{"readable": "Road", "instances": False}, {"readable": "Car", "instances": True}]
    photograph(tmp_path / "images" / "a.png")
    save(tmp_path / "instances" / "a.png", values((256, 1, 1, 9, 9), (257, 11, 1, 19, 9)))
    said = refused(tmp_path, capsys, tmp_path / "instances", "masks", "--ids=mapillary")
    assert "has no config.json of Mapillary" in said
    (tmp_path / "config.json").write_text(json.dumps({"labels": labels}))
    content = run(tmp_path, tmp_path / "instances", "masks", "--ids=mapillary")
    assert [label for _, label, _ in flat(content)] == ["Car", "Car"]


def yolo(tmp_path, description, line="1 0.1 0.1 0.6 0.1 0.6 0.5\n"):
    root = tmp_path / "set"
    for part, count in (("train", 2), ("valid", 1)):
        for i in range(count):
            photograph(root / part / "images" / f"{part}{i}.jpg", seed=i)
            (root / part / "labels").mkdir(exist_ok=True)
            (root / part / "labels" / f"{part}{i}.txt").write_text(line)
    (root / "data.yaml").write_text(description)
    return root


NAMES = "names: [cat, dog]\n"


@pytest.mark.parametrize(
    "description",
    [
        NAMES + "train: ../train/images\nval: ../valid/images\n",
        NAMES + "path: /home/somebody/set\ntrain: train/images\nval: valid/images\n",
        "names: {0: cat, 1: dog}\n",
        "names:\n  '0': cat\n  '1': dog\ntrain: C:\\data\\train\\images\nval: D:\\valid\\images\n",
    ],
)
def test_parts_of_a_yolo_set(description, tmp_path):
    root = yolo(tmp_path, description)
    assert main(["import", str(root), "--format=yolo-seg", f"--output={tmp_path / 'out.json'}"]) == 0
    for part, names in (("train", ["train0", "train1"]), ("val", ["valid0"])):
        content = json.loads((tmp_path / f"out_{part}.json").read_text())
        assert [image["file_name"].split("/")[-1] for image in content["images"]] == [
            f"{n}.jpg" for n in names
        ]
        assert [category["name"] for category in content["categories"]] == ["cat", "dog"]
        picture = Image.new("L", (40, 30))
        ImageDraw.Draw(picture).polygon([(4, 3), (24, 3), (24, 15)], fill=1)
        drawn = int(np.asarray(picture, np.int64).sum())  # with its outline, which pycocotools leaves out
        for (_, label), found in masks(content).items():
            assert label == "dog" and abs(int(found[0].sum()) - drawn) < 40
    content = run(tmp_path, root, "yolo-seg", "--split=val")
    assert len(content["images"]) == 1


def test_labels_of_boxes_alone_are_refused_in_one_sentence(tmp_path, capsys):
    root = yolo(tmp_path, NAMES, "1 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.1 0.1\n")
    said = refused(tmp_path, capsys, root, "yolo-seg")
    assert said.count("\n") == 1 and "boxes alone (6 of 6 objects have 4 numbers" in said


def test_names_and_splits_that_a_format_does_not_have(tmp_path, capsys):
    root = yolo(tmp_path, NAMES)
    said = refused(tmp_path, capsys, root, "yolo-seg", f"--names={root / 'data.yaml'}")
    assert "give the names as a,b,c or a text file with one per line" in said
    labelme(tmp_path / "labelme", [])
    said = refused(tmp_path, capsys, tmp_path / "labelme", "labelme", "--split=train")
    assert "the format labelme has no lists or parts; give fractions" in said


def labelme(folder, shapes, **changes):
    content = {"imagePath": "a.png", "imageHeight": 30, "imageWidth": 40, "shapes": shapes, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text(json.dumps(content))


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


TRIANGLE = [[2, 3], [22, 3], [22, 20]]


def test_reserved_labels_are_no_classes(tmp_path, capsys):
    photograph(tmp_path / "set" / "a.png")
    labels = ("cat", "__ignore__", "_background_", "dog")
    labelme(tmp_path / "set", [shape(label, TRIANGLE) for label in labels])
    content = run(tmp_path, tmp_path / "set", "labelme")
    assert [label for _, label, _ in flat(content)] == ["cat", "dog"]
    assert len(content["categories"]) == 2
    assert "reserved label '__ignore__'" in capsys.readouterr().out


def test_the_picture_inside_of_the_json(tmp_path, capsys):
    pixels, stream = photograph(tmp_path / "elsewhere.png"), io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    labelme(tmp_path / "set", [shape("cat", TRIANGLE)], imageData=data, imagePath="a.json")
    content = run(tmp_path, tmp_path / "set", "labelme")
    (image,) = content["images"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "set" / image["file_name"])), pixels)
    labelme(tmp_path / "bad", [shape("cat", TRIANGLE)], imageData="?", imagePath="a.json")
    assert "'imageData' that is not base64" in refused(tmp_path, capsys, tmp_path / "bad", "labelme")
    labelme(tmp_path / "bad", [shape("cat", TRIANGLE)], imageData=data, imagePath="b.png", imageHeight=99)
    assert "pixels but gives its size as 40 x 99" in refused(tmp_path, capsys, tmp_path / "bad", "labelme")


def test_image_paths_count_from_the_json(tmp_path):
    photograph(tmp_path / "set" / "pictures" / "a.png")
    labelme(tmp_path / "set" / "labels", [shape("cat", TRIANGLE)], imagePath="../pictures/a.png")
    content = run(tmp_path, tmp_path / "set" / "labels", "labelme")
    assert [image["file_name"] for image in content["images"]] == ["a.png"]


@pytest.mark.parametrize("kind", ["quadrilateral", "rotation", "oriented_rectangle", "cuboid_face"])
def test_shapes_of_other_tools_that_write_labelme_files(kind, tmp_path):
    corners = [[5, 5], [25, 8], [22, 25], [4, 20]]
    photograph(tmp_path / "set" / "a.png")
    labelme(tmp_path / "set", [shape("plate", corners, kind)])
    content = run(tmp_path, tmp_path / "set", "labelme")
    (found,) = masks(content)["a.png", "plate"]
    wanted = decode(rle_codec.merge(rle_codec.frPyObjects([sum(corners, [])], 30, 40)))
    np.testing.assert_array_equal(found, wanted)


def test_a_huge_circle_is_cut_at_the_image(tmp_path):
    photograph(tmp_path / "set" / "a.png")
    labelme(tmp_path / "set", [shape("sky", [[20, 15], [4000, 15]], "circle")])
    (found,) = masks(run(tmp_path, tmp_path / "set", "labelme"))["a.png", "sky"]
    assert found.all()


def test_fractions_divide_the_images_once_and_for_all(tmp_path, capsys):
    for i in range(10):
        photograph(tmp_path / "images" / f"{i}.png", seed=i)
        save(tmp_path / "masks" / f"{i}.png", TWO)
    command = ["import", str(tmp_path / "masks"), "--format=masks", "--class_name=cell"]

    def parts(name, *more):
        assert main([*command, f"--output={tmp_path / name}.json", *more]) == 0
        contents = [json.loads((tmp_path / f"{name}_{part}.json").read_text()) for part in ("train", "val")]
        return [{image["file_name"] for image in content["images"]} for content in contents]

    train, val = parts("a", "--split=0.8,0.2")
    assert (len(train), len(val)) == (8, 2) and not train & val
    assert parts("b", "--split=0.8,0.2") == [train, val]
    assert any(
        parts(f"c{seed}", "--split=0.8,0.2", f"--split_seed={seed}") != [train, val] for seed in (1, 2)
    )
    assert "add up to 1" in refused(
        tmp_path, capsys, tmp_path / "masks", "masks", "--class_name=c", "--split=0.8,0.3"
    )
    said = refused(tmp_path, capsys, tmp_path / "masks", "masks", "--class_name=c", "--split=0.99,0.01")
    assert "leaves no image for 'val', because there are 10" in said


def test_a_project_of_via_3(tmp_path, capsys):
    photograph(tmp_path / "set" / "a.png")
    project = {
        "project": {"pid": "x", "data_format_version": "3.1.1"},
        "file": {"1": {"fid": "1", "fname": "a.png", "type": 2, "loc": 1, "src": "a.png"}},
        "view": {"1": {"fid_list": ["1"]}},
        "attribute": {"1": {"aname": "kind", "type": 4, "options": {"0": "cat", "1": "dog"}}},
        "metadata": {
            "p": {"vid": "1", "xy": [7, 2, 3, 22, 3, 22, 20], "av": {"1": "1"}},
            "r": {"vid": "1", "xy": [2, 25, 4, 10, 20], "av": {"1": "0"}},
        },
    }
    (tmp_path / "set" / "via.json").write_text(json.dumps(project))
    found = masks(run(tmp_path, tmp_path / "set" / "via.json", "via"))
    assert {key: len(shapes) for key, shapes in found.items()} == {("a.png", "dog"): 1, ("a.png", "cat"): 1}
    np.testing.assert_array_equal(found["a.png", "cat"][0], values((1, 25, 4, 35, 24)) == 1)
    wanted = decode(rle_codec.merge(rle_codec.frPyObjects([sum(TRIANGLE, [])], 30, 40)))
    np.testing.assert_array_equal(found["a.png", "dog"][0], wanted)


def yolo_set(root, images, **description):
    """Images with a triangle each; labels in the place of ``images`` in their paths."""
    for name in images:
        photograph(root / name)
        labels = root / name.replace("images/", "labels/")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.with_suffix(".txt").write_text("0 0.1 0.1 0.6 0.1 0.6 0.6\n")
    (root / "data.yaml").write_text(json.dumps({"names": ["cat"], **description}))
    return root


def parts_of(folder):
    return {
        path.stem: sorted(image["file_name"] for image in json.loads(path.read_text())["images"])
        for path in sorted(folder.glob("*.json"))
    }


LISTS = {
    "splits/train.txt": "./images/a.png\nimages/b.png\n",
    "splits/val.txt": "/home/me/set/images/c.png\n",
}


@pytest.mark.parametrize(
    ("images", "description", "lists", "expected"),
    [
        (["images/a.png", "images/b.png", "images/c.png"],
         {"train": "splits/train.txt", "val": "splits/val.txt"}, LISTS,
         {"x_train": ["images/a.png", "images/b.png"], "x_val": ["images/c.png"]}),
        (["images/a.png", "images/b.png", "images/v/c.png"],
         {"train": "splits/train.txt", "val": "images/v"}, LISTS,
         {"x_train": ["images/a.png", "images/b.png"], "x_val": ["images/v/c.png"]}),
        (["images/set1/a.png", "images/set10/b.png"],
         {"train": "images/set1/*.png", "val": ["images/set10/*.png"]}, {},
         {"x_train": ["images/set1/a.png"], "x_val": ["images/set10/b.png"]}),
        (["Train/images/a.png", "Val/images/b.png"], {}, {},
         {"x_train": ["Train/images/a.png"], "x_val": ["Val/images/b.png"]}),
        (["images/train2017/a.png", "images/val2017/b.png"], {}, {},
         {"x_train": ["images/train2017/a.png"], "x_val": ["images/val2017/b.png"]}),
    ],
    ids=["two lists", "list and folder", "patterns", "capitals", "years"],
)  # fmt: skip
def test_parts_of_a_yolo_set_are_kept_apart(images, description, lists, expected, tmp_path):
    root = yolo_set(tmp_path / "set", images, **description)
    for name, text in lists.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "out").mkdir()
    words = [
        "import",
        str(root),
        "--format=yolo-seg",
        f"--images={root}",
        f"--output={tmp_path / 'out/x.json'}",
    ]
    assert main(words) == 0
    assert parts_of(tmp_path / "out") == expected


def test_images_that_would_share_their_labels_are_refused(tmp_path, capsys):
    root = yolo_set(tmp_path / "set", ["images/a.png", "images/a.jpg"])
    said = refused(tmp_path, capsys, root, "yolo-seg", f"--images={root}")
    assert "images/a.jpg and images/a.png would have the same labels" in said


def test_accents_of_macos_in_names_of_images(tmp_path):
    root = yolo_set(tmp_path / "set", ["images/café.png"])
    (root / "images" / "café.png").rename(root / "images" / "cafe\u0301.png")
    content = run(tmp_path, root, "yolo-seg", f"--images={root}")
    assert len(content["annotations"]) == 1
