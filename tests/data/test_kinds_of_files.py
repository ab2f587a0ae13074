"""Files that are no annotations of objects are named for what they are, with what can be done."""

import gzip
import io
import json
import re
import tarfile
import zipfile

import numpy as np
import pytest
from data_helpers import annotation, content, write
from PIL import Image

from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.errors import UserError


def packed(kind):
    file = io.BytesIO()
    data = json.dumps(content([annotation(1)])).encode()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("instances.json", data)
    elif kind == "tar":
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("instances.json"), io.BytesIO(b""))
    elif kind == "png":
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(file, "PNG")
    elif kind == "gzip":
        return gzip.compress(data)
    return file.getvalue()


def of_kind(**fields):
    """A json with annotations that have these fields and no box and no mask."""
    entries = [annotation(i, bbox=None, segmentation=None, area=None, **fields) for i in (1, 2, 3)]
    return content(entries)


VIA3 = {
    "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1"},
    "config": {}, "attribute": {"1": {"aname": "kind"}}, "file": {"1": {"fname": "a.png"}},
    "metadata": {"p": {"vid": "1", "xy": [7, 2, 3, 22, 3, 22, 20], "av": {"1": "cat"}}},
    "view": {"1": {"fid_list": ["1"]}},
}  # fmt: skip
POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
)
YAML = "# a data set\n" * 99 + "path: ../set\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n"
FILES = {
    "VIA 3": (VIA3, "holds regions as VGG Image Annotator writes them; .* SOURCE --format=via"),
    "VIA's csv": (
        "filename,file_size,file_attributes,region_count\n",
        "is VGG Image Annotator's csv; export",
    ),
    "data.yaml": (YAML, "is the description of a YOLO data set; give its folder: .* --format=yolo-seg"),
    "yaml as json": ({"names": ["cat"], "nc": 1}, "is the description of a YOLO data set; give its folder"),
    "captions": (
        of_kind(caption="a cat"),
        "is COCO's json of captions, .*; give the json of the same images",
    ),
    "captions without classes": (
        {**of_kind(caption="a cat", category_id=None), "categories": None},
        "is COCO's json of captions, .*; give the json of the same images",
    ),
    "keypoints": (of_kind(keypoints=[1, 2, 2] * 17), "is a json of keypoints alone, .*; give the json"),
    "LFS": (POINTER, "is a Git LFS pointer and not the file itself; fetch that with git lfs pull"),
    "page": ("<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page .*; download the file itself"),
    "page in capitals": ("\ufeff\n<HTML>\u00e4</HTML>", "is a web page .*; download the file itself"),
    "zip": (packed("zip"), "is an archive .*; unpack it, and give the file in it"),
    "gzip": (packed("gzip"), "is an archive .*; unpack it, and give the file in it"),
    "tar": (packed("tar"), "is an archive .*; unpack it, and give the file in it"),
    "picture": (packed("png"), "is a picture and no file of annotations; give the annotations"),
    "empty": ("", "is empty; export the annotations again"),
    "zeros": (bytes(99), "is empty; export the annotations again"),
}


@pytest.mark.parametrize("kind", FILES)
def test_other_files_are_named(kind, tmp_path, capsys):
    found, words = FILES[kind]
    path = tmp_path / "set.json"
    data = found if isinstance(found, bytes) else (found if isinstance(found, str) else json.dumps(found))
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    assert main(["inspect", str(path), f"--output={tmp_path / 'sheet.png'}"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(f"jaxmaskrcnn inspect: {re.escape(str(path))} {words}.*\\.\n", said), said
    with pytest.raises(UserError, match=words):
        prepare(path, tmp_path, tmp_path / "cache")


def test_keypoints_beside_boxes_or_masks_are_no_fault(tmp_path):
    entries = [annotation(1, bbox=None, segmentation=None, keypoints=[1, 2, 2])]
    entries += [annotation(2, keypoints=[1, 2, 2])]
    path, images = write(tmp_path, content(entries))
    with pytest.raises(UserError, match="annotation 1 of image 1"):
        prepare(path, images, tmp_path / "cache")
    assert len(prepare(path, images, tmp_path / "cache", on_error="skip")) == 1


@pytest.mark.parametrize("kind", ["LFS", "page", "zip", "gzip", "picture", "empty"])
@pytest.mark.parametrize("form, name", [("labelme", "a.json"), ("cvat", "a.xml")])
def test_import_names_them_too(form, name, kind, tmp_path, capsys):
    found, words = FILES[kind]
    (tmp_path / name).write_bytes(found if isinstance(found, bytes) else found.encode())
    output = tmp_path / "out" / "set.json"
    assert main(["import", str(tmp_path / name), f"--format={form}", f"--output={output}"]) == 2
    said = capsys.readouterr().err
    assert re.search(f"{name} {words}", said) and said.count("\n") == 1, said


def test_captions_among_the_files_of_a_folder_are_passed_over(tmp_path, capsys):
    write(tmp_path, content([annotation(1)]), name="set.json")
    (tmp_path / "captions.json").write_text(json.dumps(of_kind(caption="a cat")))
    output = tmp_path / "out" / "set.json"
    words = ["import", str(tmp_path), "--format=coco", f"--output={output}"]
    assert main(words) == 0
    assert "1 json files that are not COCO's instances are passed over" in capsys.readouterr().out
