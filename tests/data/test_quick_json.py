"""A json is read by a quick parser where nothing in it is unusual, and comes out as Python reads it."""

import json

import pytest

from jaxmaskrcnn.data import prepare, write_shapes
from jaxmaskrcnn.data.coco import load
from jaxmaskrcnn.data.coco.load import load_json, quick_content
from jaxmaskrcnn.data.coco.packing import unpacked
from jaxmaskrcnn.data.records import fingerprint
from jaxmaskrcnn.errors import UserError

IMAGES = b'"images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 5}]'


def file_of(annotations: bytes, more: bytes = b'"categories": []') -> bytes:
    return b"{" + IMAGES + b', "annotations": ' + annotations + b", " + more + b"}"


# Those that the quick parser takes, and those that it leaves to Python's json.
QUICK = {
    "polygons": b'[{"id": 1, "segmentation": [[0, 0.5, 1e2, -0.0, -0, 3]], "bbox": [1, 2.0, 3E1, 4]}]',
    "white space": b' [ \n {"id" : 1 ,\t"segmentation":[ [ 0,1 , 2,3,4 ,5 ] ] } , {"id":2} ] ',
    "texts": '[{"id": "\\u00e9\\ud83d\\ude00 é", "segmentation": "[[1, 2]]"}]'.encode(),
    "a key twice": b'[{"id": 1, "id": 2, "segmentation": [[0]], "segmentation": [[1, 2]]}]',
    "large numbers": b'[{"id": 1234567890123456789012345, "area": 1e-400, "bbox": [18446744073709551616]}]',
    "RLE": b'[{"id": 1, "segmentation": {"size": [4, 5], "counts": "0d0"}}]',
    "nothing": b"[]",
    "long numbers": b'[{"segmentation": [[5e-324, 2.2250738585072011e-308, 0.1000000000000000055511]]}]',
}
GENERAL = {
    "NaN": b'[{"id": 1, "area": NaN, "segmentation": [[0, 1, Infinity, -Infinity, 4, 5]]}]',
    "too large for a float": b'[{"id": 1, "segmentation": [[0, 1e400]]}]',
    "half a surrogate": b'[{"id": "\\ud800"}]',
    "bytes of half a surrogate": b'[{"id": "\xed\xa0\x80"}]',
}  # fmt: skip
WRONG = {
    "a comma too many": b'[{"id": 1},]',
    "a number of another language": b'[{"id": 01}]',
    "cut off": b'[{"id": 1',
    "a control character": b'[{"id": "\x01"}]',
    "another encoding": b'[{"id": "\xe9"}]',
    "no list": b'{"id": 1}',
    "null": b"null",
    "no object": b'[{"id": 1}, [2]]',
    "a number": b'[{"id": 1}, 2]',
    "brackets": b"[" * 3000 + b"]" * 3000,
}


def contents(path):
    return [
        {**entry, "segmentation": repr(unpacked(entry.get("segmentation")))}
        for entry in load_json(path)["annotations"]
    ]


@pytest.mark.parametrize("case", [*QUICK, *GENERAL])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_the_content_is_that_of_pythons_json(case, start, tmp_path):
    data = file_of((QUICK | GENERAL)[case])
    path = tmp_path / "set.json"
    path.write_bytes(start + data)
    assert (quick_content(start + data) is not None) == (case in QUICK and not start)
    expected = json.loads(data.decode("utf-8", "surrogatepass"))["annotations"]
    expected = [{**entry, "segmentation": repr(entry.get("segmentation"))} for entry in expected]
    assert repr(contents(path)) == repr(expected)


@pytest.mark.parametrize("case", WRONG)
def test_messages_are_the_same(case, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    path = tmp_path / "set.json"
    path.write_bytes(file_of(WRONG[case]))

    def message(of):
        with pytest.raises(UserError) as caught:
            of()
        return str(caught.value)

    quick = message(lambda: load_json(path))
    hashed = message(lambda: prepare(path, tmp_path / "images", tmp_path / "cache"))
    monkeypatch.setattr(load, "quick_content", lambda data: None)
    assert quick == hashed == message(lambda: load_json(path))


@pytest.mark.parametrize("data", [
    b"", b"[]", b"{}", b"1", b'{"annotations": [}', file_of(b"[]") + b"x", b'{"a": 1}',
    b'{"annotations": []}', b'{"info": {}, "objects": []}',
])  # fmt: skip
def test_other_files_have_the_same_messages(data, tmp_path, monkeypatch):
    path = tmp_path / "set.json"
    path.write_bytes(data)
    with pytest.raises(UserError) as quick:
        load_json(path)
    monkeypatch.setattr(load, "quick_content", lambda data: None)
    with pytest.raises(UserError) as general:
        load_json(path)
    assert str(quick.value) == str(general.value)


def test_names_are_found_without_reading_the_annotations(tmp_path, monkeypatch):
    annotations, images = write_shapes(tmp_path / "set", 3, 64, seed=0)
    before = fingerprint.content_hash(annotations, images, tmp_path, [])
    (tmp_path / "general").mkdir()

    def never(data, annotations=True):
        return None

    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "quick_content", never)
        assert fingerprint.content_hash(annotations, images, tmp_path / "general", []) == before
    names = {path.read_text() for path in tmp_path.rglob(".names-*.json")}
    content = json.loads(annotations.read_text())
    assert [json.loads(text)["names"] for text in names] == [
        sorted([i["file_name"]] for i in content["images"])
    ]
    # The annotations themselves count through the file's bytes.
    content["annotations"][0]["area"] += 1
    annotations.write_text(json.dumps(content))
    assert fingerprint.content_hash(annotations, images, tmp_path, []) != before
