"""Files that are no annotations of objects are named for what they are, with what can be done."""

import gzip
import io
import json
import pickle
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


def lines(*values):
    """Json lines."""
    return "".join(json.dumps(value) + "\n" for value in values)


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
    "PDF": (b"%PDF-1.7\n\xe2\xe3", "is a PDF and no file of annotations; give"),
    "Parquet": (b"PAR1\x15\x04\xff", "is a Parquet file, .*; export COCO json"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "is a file of HDF5; export COCO json"),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64\x00\xff", "is a file of MATLAB; export COCO json"),
    "SQLite": (b"SQLite format 3\0\x10\xff", "is a database of SQLite; export COCO json"),
    "pickle": (pickle.dumps({"infos": [1.5]}), "is a pickle of Python; export COCO json"),
    "TFRecord": (b"\x92\1" + bytes(6) + b"\xa1\xb2\xc3\xd4\n\x8f\3", "holds TensorFlow's records .*; export"),
    "csv of boxes": (
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,9,6,cat,1,1,4,4\n",
        "is a csv of boxes; export COCO json",
    ),
    "Open Images": (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n",
        "is a csv of boxes; export COCO json",
    ),
    "Darwin": (
        {"version": "2.0", "item": {"name": "a"}, "annotations": []},
        "is V7 Darwin's json .*; export",
    ),
    "Darwin 1": ({"dataset": "d", "image": {}, "annotations": []}, "is V7 Darwin's json .*; export"),
    "VoTT": ({"asset": {"name": "a"}, "regions": []}, "is a json of VoTT; export COCO instances"),
    "VoTT's project": ({"name": "p", "assets": {}, "tags": []}, "is a json of VoTT; export COCO instances"),
    "Labelbox": ([{"data_row": {}, "projects": {}}], "is Labelbox's own json; export COCO json"),
    "SuperAnnotate": ({"metadata": {}, "instances": []}, "is SuperAnnotate's json .*; export COCO"),
    "annotations alone": ([annotation(1)], "is an annotation of COCO without its images .*; put all into"),
    # Json lines.
    "lines": (
        lines({"a": 1}, {"a": 2}, {"a": 3}),
        r"holds one json object a line \(3 json lines, .*; export",
    ),
    "lines of Hugging Face": (
        lines(*[{"file_name": f"{i}.jpg", "objects": {"bbox": []}} for i in (1, 2)]),
        r"holds one json object a line \(2 json lines, .* a metadata.jsonl as Hugging Face's .*; export",
    ),
    "lines of SageMaker": (
        lines({"source-ref": "s3://a/1.jpg"}, {"source-ref": "s3://a/2.jpg"}),
        "holds one json object a line .* first is of an output manifest of SageMaker .*; export",
    ),
    "lines of Labelbox": (
        lines({"data_row": {}, "projects": {}}, {"data_row": {}, "projects": {}}),
        "holds one json object a line .*, of which the first is Labelbox's own json; export COCO json",
    ),
    "lines of labelme": (
        lines({"shapes": [], "imagePath": "a"}, {"shapes": [], "imagePath": "b"}),
        "holds one json object a line .* first has 'shapes', .*; write each to a file of its own .*=labelme",
    ),
    "lines of annotations": (
        lines(annotation(1), annotation(2)),
        "holds one json object a line .* is an annotation of COCO without its images .*; put all into",
    ),
    "lines of results": (
        lines(*[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}] * 2),
        "holds one json object a line .* first is a result .*; give the annotations that it was made for",
    ),
    "lines for Windows": (
        "\ufeff" + lines({"a": 1}, {"a": 2}).replace("\n", "\r\n"),
        "holds one json object a line",
    ),
    "one line": (lines({"imageGcsUri": "gs://a/1.jpg"}), "is of a file for Vertex AI; export COCO json"),
    # A COCO json with more behind it.
    "twice": (lines(content([annotation(1)])) * 2, "holds several COCO jsons, .*; give each a file"),
    "a bracket": (
        lines(content([annotation(1)])) + "}",
        "holds a whole json, and more behind it .* on: '}'.*; cut",
    ),
    "an older file": (
        lines(content([annotation(1)])) + 'ocation": "x"}]}',
        r"holds a whole json, and more behind it \(from character \d+ of \d+ on: 'ocation.*; cut that off",
    ),
    "zeros behind it": (
        json.dumps(content([annotation(1)])) + "\0" * 99,
        ".* more behind it .* zero bytes.*; cut",
    ),
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


KINDS = ["lines", "lines of Hugging Face", "lines of labelme", "twice", "a bracket", "Parquet", "pickle"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["labelme", "coco", "label-studio"])
def test_import_names_json_lines_too(form, kind, tmp_path, capsys):
    found, words = FILES[kind]
    path = tmp_path / "a.jsonl"
    path.write_bytes(found if isinstance(found, bytes) else found.encode())
    assert main(["import", str(path), f"--format={form}", f"--output={tmp_path / 'set.json'}"]) == 2
    said = capsys.readouterr().err
    assert re.search(f"{re.escape(str(path))} {words}", said) and said.count("\n") == 1, said


def test_captions_among_the_files_of_a_folder_are_passed_over(tmp_path, capsys):
    write(tmp_path, content([annotation(1)]), name="set.json")
    (tmp_path / "captions.json").write_text(json.dumps(of_kind(caption="a cat")))
    output = tmp_path / "out" / "set.json"
    words = ["import", str(tmp_path), "--format=coco", f"--output={output}"]
    assert main(words) == 0
    assert "1 json files that are not COCO's instances are passed over" in capsys.readouterr().out
