"""A COCO json in any spelling becomes a clean one with the same objects."""

import json
import shutil

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import masks, photograph, values
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO

from jaxmaskrcnn.cli.main import main as command

# Rectangles of the images, 40 x 30 pixels: class, x0, y0, x1, y1 (ends excluded).
THINGS = {"a.png": [("cat", 2, 3, 12, 9), ("dog", 20, 5, 33, 28)], "b.png": [("cat", 0, 0, 40, 10)]}
IDS = {"cat": 1, "dog": 2, "owl": 3}


def corners(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def painted(box, crowd=1):
    """What CVAT writes for a painted mask: runs down the columns, and the flag of a crowd."""
    mask = values((1, *box)) > 0
    flat_mask = np.concatenate([[False], mask.T.reshape(-1)])
    edges = np.flatnonzero(np.diff(flat_mask.astype(int)))
    counts = np.diff([0, *edges, mask.size]).tolist()
    return {"segmentation": {"size": [30, 40], "counts": counts}, "iscrowd": crowd}


def entries(things=None):
    """A json of the things, as COCO writes it."""
    things = THINGS if things is None else things
    images, annotations = [], []
    for number, (name, objects) in enumerate(things.items(), 7):
        images.append({"id": number, "file_name": name, "height": 30, "width": 40})
        for label, x0, y0, x1, y1 in objects:
            annotations.append({
                "id": len(annotations) + 5, "image_id": number, "category_id": IDS[label], "iscrowd": 0,
                "segmentation": [corners(x0, y0, x1, y1)], "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
            })  # fmt: skip
    categories = [{"id": i, "name": name, "supercategory": "animal"} for name, i in IDS.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(folder, content, name="set.json", encoding="utf-8"):
    for i, image in enumerate(content.get("images", ())):
        photograph(folder / str(image["file_name"]).replace("\\", "/").rsplit("/", 1)[-1], seed=i)
    (folder / name).write_text(json.dumps(content), encoding)
    return folder / name


def assert_things(content, things=None, classes=None):
    """The objects, by pycocotools, and their boxes and areas, by hand."""
    found = masks(content)
    wanted = {}
    for name, objects in (THINGS if things is None else things).items():
        for label, *box in objects:
            wanted.setdefault((name, (classes or {}).get(label, label)), []).append(values((1, *box)) > 0)
    assert found.keys() == wanted.keys()
    for key, shapes in wanted.items():
        np.testing.assert_array_equal(found[key], shapes)
    for _, _, annotation in flat(content):
        mask = annotation["segmentation"]
        if isinstance(mask, list):
            mask = rle_codec.merge(rle_codec.frPyObjects(mask, 30, 40))
        assert annotation["bbox"] == rle_codec.toBbox(mask).tolist()
        assert annotation["area"] == rle_codec.area(mask)
    for key in ("images", "annotations", "categories"):
        ids = [entry["id"] for entry in content[key]]
        assert ids == list(range(ids[0], ids[0] + len(ids))) and (ids[0] == 1 or key != "categories")


def text_ids(c):
    for image in c["images"]:
        image["id"] = f"image-{image['id']}"
    for i, annotation in enumerate(c["annotations"]):
        annotation |= {"id": f"{i}-x", "image_id": f"image-{annotation['image_id']}"}


def odd_values(c):
    for image in c["images"]:
        image |= {"height": "30", "width": 40.0}
    for annotation in c["annotations"]:
        annotation |= {"iscrowd": "0", "category_id": str(annotation["category_id"]), "area": "1e9"}
        annotation["bbox"] = list(map(str, annotation["bbox"]))


def odd_shapes(c):
    first, second, third = c["annotations"]
    first["segmentation"] = [[[2, 3], [12, 3], [12, 9], [2, 9]]]
    second |= {"segmentation": [*second["segmentation"], [1, 1, 2, 2]], "bbox": [0, 0, 3, 3]}
    third["segmentation"] = painted((0, 0, 40, 10))["segmentation"]
    del third["bbox"], third["area"], third["iscrowd"]


def placeholder(c):
    c["categories"] = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        *({**entry, "supercategory": "animals"} for entry in c["categories"]),
    ]


SPELLINGS = {
    "plain": lambda c: None,
    "folders of Windows": lambda c: [i.update(file_name=f"D:\\data\\{i['file_name']}") for i in c["images"]],
    "ids of text": text_ids,
    "values of text": odd_values,
    "polygons and masks": odd_shapes,
    "Roboflow's placeholder": placeholder,
    "extra fields": lambda c: (
        c.update(info={"x": 1}, licenses=[]),
        [a.update(attributes={"occluded": True}, id=0) for a in c["annotations"]],
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_every_spelling_becomes_the_same_json(spelling, encoding, tmp_path):
    content = entries()
    SPELLINGS[spelling](content)
    found = run(tmp_path, write(tmp_path / "set", content, encoding=encoding), "coco")
    assert_things(found)
    assert [c["name"] for c in found["categories"]] == ["cat", "dog", "owl"]
    assert {key for a in found["annotations"] for key in a} == {
        "id", "image_id", "category_id", "iscrowd", "bbox", "area", "segmentation",
    }  # fmt: skip
    loaded = COCO()  # pycocotools reads it too
    loaded.dataset = found
    loaded.createIndex()
    assert loaded.getAnnIds(catIds=[1]) == [1, 3]


def test_what_is_read_is_counted(tmp_path, capsys):
    content = entries()
    odd_values(content)
    run(tmp_path, write(tmp_path / "set", content), "coco")
    said = capsys.readouterr().out
    assert "values of 'iscrowd' that are text, lists, floats or null, read as what they say: 3" in said


def test_keypoints_stay(tmp_path, capsys):
    content = entries()
    cat, dog = content["categories"][:2]
    cat |= {"keypoints": ["head", "tail"], "skeleton": [[2, 1]]}
    content["annotations"][0] |= {"keypoints": [3, 4.5, 1, 0, 0, 0], "num_keypoints": 7}
    found = run(tmp_path, write(tmp_path / "set", content), "coco", "--rename=cat:kitten")
    kitten, *others = found["categories"]
    assert kitten == {"id": 1, "name": "kitten", "keypoints": ["head", "tail"], "skeleton": [[2, 1]]}
    assert others == [{"id": 2, "name": "dog"}, {"id": 3, "name": "owl"}]
    (entry,) = [a for a in found["annotations"] if "keypoints" in a]
    assert entry["keypoints"] == [3, 4.5, 1, 0, 0, 0] and entry["num_keypoints"] == 1
    content["annotations"][1]["keypoints"] = "nowhere"
    dog["keypoints"] = ["head", "tail"]
    said = refused(tmp_path, capsys, write(tmp_path / "set", content), "coco")
    assert "has keypoints that are str; give a flat list" in said


def test_masks_without_a_pixel_are_counted(tmp_path, capsys):
    """Training takes them as they are, and so they stay."""
    content = entries()
    content["annotations"][0]["segmentation"] = [corners(50, 50, 60, 60)]
    found = run(tmp_path, write(tmp_path / "set", content), "coco")
    assert len(found["annotations"]) == 3 and found["annotations"][0]["bbox"] == [2, 3, 10, 6]
    assert "1 objects have masks without a pixel" in capsys.readouterr().out


def test_painted_masks_are_objects_if_the_user_says_so(tmp_path, capsys):
    content = entries()
    for annotation, box in zip(
        content["annotations"], [t[1:] for v in THINGS.values() for t in v], strict=True
    ):
        annotation |= painted(box)
    source = write(tmp_path / "set", content)
    said = refused(tmp_path, capsys, source, "coco")
    assert "all 3 annotations are crowd regions ('iscrowd': 1); if they are objects, set --crowd=obj" in said
    assert "holds no objects" in refused(tmp_path, capsys, source, "coco", "--crowd=drop")
    found = run(tmp_path, source, "coco", "--crowd=objects")
    assert_things(found)
    assert not any(a["iscrowd"] for a in found["annotations"])
    assert "taken as objects (crowd is 'objects'): 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("crowd", "flags"), [("ignore", [1, 0, 0]), ("objects", [0, 0, 0]), ("drop", [0, 0])]
)
def test_crowd_regions_beside_objects(crowd, flags, tmp_path, capsys):
    content = entries()
    content["annotations"][0] |= painted((2, 3, 12, 9))
    content["annotations"][2]["category_id"] = 2
    found = run(tmp_path, write(tmp_path / "set", content), "coco", f"--crowd={crowd}")
    assert [a["iscrowd"] for a in found["annotations"]] == flags
    said = capsys.readouterr().out
    assert ("1 of the 1 annotations of 'cat' are crowd regions" in said) == (crowd == "ignore")
    assert "annotations of 'dog'" not in said


def test_names_are_changed_merged_and_ordered(tmp_path, capsys):
    source = write(tmp_path / "set", entries())
    found = run(tmp_path, source, "coco", "--rename=dog:pet,cat:pet")
    assert [c["name"] for c in found["categories"]] == ["pet", "owl"]
    assert_things(found, classes={"cat": "pet", "dog": "pet"})
    found = run(tmp_path, source, "coco", "--rename=dog:cat,cat:dog")  # both at once
    assert [c["name"] for c in found["categories"]] == ["dog", "cat", "owl"]
    assert_things(found, classes={"cat": "dog", "dog": "cat"})
    (tmp_path / "new.txt").write_text("dog: hound \n\n owl:bird\n")
    found = run(tmp_path, source, "coco", f"--rename={tmp_path / 'new.txt'}", "--names=bird,hound,cat")
    assert [c["name"] for c in found["categories"]] == ["bird", "hound", "cat"]
    assert_things(found, classes={"dog": "hound"})
    found = run(tmp_path, source, "coco", "--class_name=thing")
    assert [c["name"] for c in found["categories"]] == ["thing"]
    assert_things(found, classes={"cat": "thing", "dog": "thing"})
    for argument, words in (
        ("--rename=dogs:pet", "'dogs', which .* does not have; give one of its classes, such as 'dog'."),
        ("--rename=dog:pet,dog:x", "has 'dog' twice"),
        ("--rename=dog", "has 'dog'; give the old and the new name as old:new"),
        ("--rename=dog:", "has 'dog:'; give the old"),
        ("--rename=a:b:c", "has 'a:b:c'; give the old"),
        ("--names=cat", "has the class 'dog', which is not among the names"),
    ):
        said = refused(tmp_path, capsys, source, "coco", argument)
        assert words.replace("which .* does", f"which {source} does") in said
    assert "leave one out" in refused(tmp_path, capsys, source, "coco", "--rename=dog:x", "--class_name=y")


def test_classes_of_one_name_become_one(tmp_path, capsys):
    content = entries()
    content["categories"][1]["name"] = "cat"
    found = run(tmp_path, write(tmp_path / "set", content), "coco")
    assert [c["name"] for c in found["categories"]] == ["cat", "owl"]
    assert "classes of one name become one" in capsys.readouterr().out
    assert_things(found, classes={"dog": "cat"})


def parts_of(tmp_path):
    return {path.name: json.loads(path.read_text()) for path in sorted((tmp_path / "out").iterdir())}


def test_the_folders_of_roboflow_become_a_json_each(tmp_path, capsys):
    """The same file names in each folder, as short exports have them."""
    root = tmp_path / "set"
    for i, part in enumerate(("train", "valid", "test")):
        content = entries({"a.png": [("cat", 1 + i, 1, 9, 9)]})
        placeholder(content)
        write(root / part, content, "_annotations.coco.json")
    write(root, entries(), "before_export.json")  # not Roboflow's, and so not read
    assert command(["import", str(root), "--format=coco", f"--output={tmp_path / 'out' / 'set.json'}"]) == 0
    found = parts_of(tmp_path)
    assert list(found) == ["set_test.json", "set_train.json", "set_val.json"]
    for i, (part, folder) in enumerate((("train", "train"), ("val", "valid"), ("test", "test"))):
        one = found[f"set_{part}.json"]
        assert [image["file_name"] for image in one["images"]] == [f"{folder}/a.png"]
        assert [c["name"] for c in one["categories"]] == ["cat", "dog", "owl"]
        np.testing.assert_array_equal(masks(one)[f"{folder}/a.png", "cat"], [values((1, 1 + i, 1, 9, 9)) > 0])
    shutil.rmtree(tmp_path / "out")
    found = run(tmp_path, root, "coco", "--split=valid")
    assert [image["file_name"] for image in found["images"]] == ["valid/a.png"]
    said = refused(tmp_path, capsys, root, "coco", "--split=night")
    assert "has no part 'night'" in said and "test, train, val" in said


def test_the_layout_of_coco(tmp_path, capsys):
    """Jsons in a folder of their own beside image folders; captions are passed over."""
    root = tmp_path / "set"
    for part in ("train2017", "val2017"):
        source = write(root / part, entries())
        (root / "annotations").mkdir(exist_ok=True)
        source.rename(root / "annotations" / f"instances_{part}.json")
    captions = {"images": [], "annotations": [{"image_id": 7, "caption": "x"}]}
    (root / "annotations" / "captions_val2017.json").write_text(json.dumps(captions))
    output = tmp_path / "out" / "set.json"
    for source in (root, root / "annotations"):
        assert command(["import", str(source), "--format=coco", f"--output={output}"]) == 0
        for part, one in parts_of(tmp_path).items():
            folder = part[4:-5] + "2017"
            assert_things(one, {f"{folder}/{name}": things for name, things in THINGS.items()})
        shutil.rmtree(tmp_path / "out")
    found = run(tmp_path, root / "annotations" / "instances_val2017.json", "coco")
    assert {image["file_name"] for image in found["images"]} == {"val2017/a.png", "val2017/b.png"}
    found = run(tmp_path, root, "coco", f"--images={root / 'train2017'}", "--split=train")
    assert_things(found)


def test_other_jsons_of_a_folder(tmp_path, capsys):
    root = tmp_path / "set"
    write(root, entries(), "mine.json")
    (root / "notes.json").write_text("[1, 2]")
    found = run(tmp_path, root, "coco")
    assert_things(found)
    assert "1 json files that are not COCO's instances are passed over" in capsys.readouterr().out
    (root / "broken.json").write_text('{"images": [')
    said = refused(tmp_path, capsys, root, "coco")
    assert "broken.json is not valid json" in said


def test_parts_by_fraction_and_the_same_image_twice(tmp_path, capsys):
    root = tmp_path / "set"
    source = write(root, entries())
    assert (
        command(
            [
                "import",
                str(source),
                "--format=coco",
                f"--output={tmp_path / 'out' / 'x.json'}",
                "--split=0.5,0.5",
            ]
        )
        == 0
    )
    assert [len(one["images"]) for one in parts_of(tmp_path).values()] == [1, 1]
    (root / "again.json").write_text(source.read_text())
    said = refused(tmp_path, capsys, root, "coco")
    assert "is about the image a.png, as is" in said


def test_boxes_without_masks(tmp_path, capsys):
    content = entries()
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    source = write(tmp_path / "set", content)
    for more in ((), ("--on_error=skip",)):
        said = refused(tmp_path, capsys, source, "coco", *more)
        assert said.count("\n") == 1 and "all 3 objects are boxes without masks" in said
        assert "--config.model.mask=none (inspect and import have --boxes_only)" in said
    found = run(tmp_path, source, "coco", "--boxes_only", "--rename=cat:pet")
    assert [a["bbox"] for a in found["annotations"]] == [[2, 3, 10, 6], [20, 5, 13, 23], [0, 0, 40, 10]]
    assert [a["area"] for a in found["annotations"]] == [60, 299, 400]
    assert not any("segmentation" in a for a in found["annotations"])
    said = capsys.readouterr().out
    assert said.rstrip().endswith("--boxes_only")
    assert command(said.rstrip().rsplit("jaxmaskrcnn ", 1)[1].split() + ["--count=0"]) == 0


def test_images_too_large_for_an_rle(tmp_path, capsys):
    content = entries()
    write(tmp_path / "set", content)
    content["images"][0] |= {"height": 10**6, "width": 10**6}
    content["annotations"][0]["segmentation"] = {"size": [10**6, 10**6], "counts": [0, 10**12]}
    (tmp_path / "set" / "set.json").write_text(json.dumps(content))
    said = refused(tmp_path, capsys, tmp_path / "set" / "set.json", "coco")
    assert "image 7 (a.png) has the height 1000000 and width 1000000" in said and "into tiles" in said


def test_halves_of_characters_are_printed(tmp_path, capsys):
    """Such as json can hold and no terminal can show."""
    content = entries()
    content["images"][0]["file_name"] = "\ud800/a.png"
    source = write(tmp_path / "set", content)
    photograph(tmp_path / "set" / "a.png")
    run(tmp_path, source, "coco")
    said = capsys.readouterr().out
    assert "\\ud800/a.png is a.png" in said and said.encode()


def entry0(**changes):
    return lambda c: c["annotations"][0].update(changes)


BAD = {
    "far": (entry0(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]), "coordinate 1e+09, which lies far outside"),
    "far in an odd list": (entry0(segmentation=[0, 0, -3e8, 0, 5, 5]), "coordinate -3e+08, which lies far"),
    "two points": (entry0(segmentation=[[1, 1, 2, 2]]), "annotation 5 of image 7 (a.png) has a polygon of 2"),
    "box outside": (
        entry0(segmentation=[corners(50, 50, 60, 60)], bbox=[50, 50, 10, 10]), "outside of its 40 x 30 image",
    ),
    "RLE size": (entry0(segmentation={"size": [3, 4], "counts": [12]}), "RLE of size [3, 4]"),
    "crowd": (entry0(iscrowd="maybe"), "has the iscrowd 'maybe'"),
    "class": (entry0(category_id=9), "has the category_id 9"),
    "unknown image": (entry0(image_id=99), "refers to the image_id 99"),
    "missing image": (lambda c: c["images"][0].update(file_name="gone.png"), "image 7 (gone.png) is not in"),
    "other size": (lambda c: c["images"][0].update(height=40, width=30), "30 x 40"),
    "no size": (lambda c: c["images"][0].update(height=0), "has the height 0 and width 40"),
    "surrogate": (lambda c: c["categories"][2].update(name="\ud800"), "category 3 has the name '\\ud800'"),
    "outside of the folder": (
        lambda c: c["images"][0].update(file_name="../other.png"), "is not in the image folder",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_a_sentence(case, tmp_path, capsys):
    change, words = BAD[case]
    photograph(tmp_path / "other.png")
    write(tmp_path / "set", entries())
    content = entries()
    change(content)
    source = tmp_path / "set" / "set.json"
    source.write_text(json.dumps(content))
    said = refused(tmp_path, capsys, source, "coco")
    assert words in said and "problems" not in said, said
    if case != "surrogate":  # what is left is right
        found = run(tmp_path, source, "coco", "--on_error=skip")
        things = dict(THINGS)
        things["a.png"] = things["a.png"][1:]
        if "a.png" not in str(found["images"]):
            del things["a.png"]
        assert_things(found, things)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [', "is not valid json"),
        ("[]", "holds a list where a COCO annotation file"),
        ('{"images": [], "annotations": {}}', "has a dict as 'annotations'"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no categories"),
        ('{"shapes": [], "imagePath": "a.png"}', "import SOURCE --format=labelme"),
        ('{"items": [], "categories": {}}', "import SOURCE --format=datumaro"),
    ],
)
def test_other_files_are_named(content, words, tmp_path, capsys):
    (tmp_path / "set.json").write_text(content)
    assert words in refused(tmp_path, capsys, tmp_path / "set.json", "coco")
