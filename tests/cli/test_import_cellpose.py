"""Cellpose's files become the same objects here, and nothing in them is run."""

import os
import pickle
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import masks, photograph

from jaxmaskrcnn.cli.main import main

WIDTH, HEIGHT = 40, 30


def cells(dtype=np.uint16, *, first=1):
    values = np.zeros((HEIGHT, WIDTH), dtype)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    values[(x - 9) ** 2 + (y - 9) ** 2 < 36] = first
    values[(x - 28) ** 2 + (y - 20) ** 2 < 50] = first + 1
    values[25:, :4] = 7
    return values


def content(values, **changes):
    """What Cellpose's `masks_flows_to_seg` and its window save."""
    return {
        "outlines": values * 0, "masks": values, "chan_choose": [0, 0], "ismanual": np.zeros(3, bool),
        "filename": "/home/me/cells/a.png", "diameter": np.nan, "est_diam": np.float64(17.5),
        "flows": [np.zeros((1, 5, 5, 3), np.uint8), [], np.zeros((3, 5, 5), np.float32)],
        "colors": np.zeros((3, 3), np.uint8), "manual_changes": [["26/01/01", "added mask", [[1], [2]]]],
        "normalize_params": {"lowhigh": None, "percentile": [1.0, 99.0], "norm3D": True},
    } | changes  # fmt: skip


def write(folder, data, name="a", suffix="png"):
    photograph(folder / f"{name}.{suffix}", (WIDTH, HEIGHT))
    np.save(folder / f"{name}_seg.npy", data, allow_pickle=True)
    return folder


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_masks_are_objects(dtype, order, tmp_path, capsys):
    values = np.asarray(cells(dtype), order=order)
    folder = write(tmp_path / "set", content(values))
    photograph(folder / "a_cp_masks.png", (WIDTH, HEIGHT))
    document = run(tmp_path, folder, "cellpose")
    assert [n for _, n, _ in flat(document)] == ["cell"] * 3
    np.testing.assert_array_equal(masks(document)["a.png", "cell"], [values == v for v in (1, 2, 7)])
    assert "not annotated" not in capsys.readouterr().out
    named = run(tmp_path, folder / "a_seg.npy", "cellpose", "--class_name=nucleus")
    assert [c["name"] for c in named["categories"]] == ["nucleus"]


@pytest.mark.parametrize("protocol", range(6))
def test_files_of_every_protocol_of_pickle(protocol, tmp_path):
    folder = write(tmp_path / "set", content(cells()))
    array = np.empty((), object)
    array[()] = content(cells())
    whole = (folder / "a_seg.npy").read_bytes()
    start = 10 + int.from_bytes(whole[8:10], "little")
    (folder / "a_seg.npy").write_bytes(whole[:start] + pickle.dumps(array, protocol))
    assert len(run(tmp_path, folder, "cellpose")["annotations"]) == 3


def test_images_are_those_beside_the_files(tmp_path):
    """Two folders have images of the same names; one file names an image of another name."""
    for part, first in (("one", 1), ("two", 5)):
        write(tmp_path / "set" / part, content(cells(first=first)), suffix="tif")
    write(tmp_path / "set" / "three", content(cells(), filename="C:\\me\\cells\\far.jpg"), "b")
    (tmp_path / "set" / "three" / "b.png").rename(tmp_path / "set" / "three" / "far.jpg")
    document = run(tmp_path, tmp_path / "set", "cellpose")
    assert [i["file_name"] for i in document["images"]] == ["one/a.tif", "three/far.jpg", "two/a.tif"]


@pytest.mark.parametrize(
    "name", [PurePosixPath("/x/a.png"), PureWindowsPath("C:/x/a.png"), Path("a.png"), ["/x/a.png"], None, 3]
)
def test_file_names_of_any_type(name, tmp_path):
    folder = write(tmp_path / "labels", content(cells(), filename=name))
    (tmp_path / "photos").mkdir()
    (folder / "a.png").rename(tmp_path / "photos" / "a.png")
    document = run(tmp_path, folder, "cellpose", f"--images={tmp_path / 'photos'}")
    assert [i["file_name"] for i in document["images"]] == ["a.png"]


def test_one_plane_is_no_stack_and_an_empty_image_has_no_objects(tmp_path):
    write(tmp_path / "set", content(cells()[None]))
    write(tmp_path / "set", content(cells() * 0, filename="b.png"), "b")
    document = run(tmp_path, tmp_path / "set", "cellpose")
    assert len(document["annotations"]) == 3 and len(document["images"]) == 2


class Call:
    """Is unpickled by a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


ATTACKS = {
    "a command": lambda mark: Call(os.system, f"touch {mark}"),
    "a path": lambda mark: Call(Path.touch, Path(mark)),
    "eval": lambda mark: Call(eval, f"open({str(mark)!r}, 'w')"),
    "exec": lambda mark: Call(exec, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: Call(open, str(mark), "w"),
    "getattr": lambda mark: Call(getattr, Path, "unlink"),
    "a file of NumPy": lambda mark: Call(np.save, str(mark), 1),
    "another pickle": lambda mark: Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {mark}"))),
    "a class": lambda mark: Call(type, "x", (), {}),
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_in_a_file_is_run(attack, protocol, tmp_path, capsys):
    mark = tmp_path / "ran"
    folder = write(tmp_path / "set", content(cells()))
    array = np.empty((), object)
    array[()] = content(cells(), flows=ATTACKS[attack](mark))
    data = pickle.dumps(array, protocol)
    whole = (folder / "a_seg.npy").read_bytes()
    start = 10 + int.from_bytes(whole[8:10], "little")
    (folder / "a_seg.npy").write_bytes(whole[:start] + data)
    said = refused(tmp_path, capsys, folder, "cellpose")
    assert "was refused" in said and "nothing in it was run" in said and said.count("\n") == 1
    assert not mark.exists() and not list(tmp_path.glob("ran*"))


def test_damaged_files_are_one_sentence(tmp_path, capsys):
    folder = write(tmp_path / "set", content(cells()))
    path = folder / "a_seg.npy"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in (0, 3, 9, 40, 128, 140, 400, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refused(tmp_path, capsys, folder, "cellpose").count("\n") == 1
    start = 10 + int.from_bytes(whole[8:10], "little")
    for _ in range(150):
        changed = bytearray(whole)
        for place in rng.integers(start, start + 600, 3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        code = main(["import", str(folder), "--format=cellpose", f"--output={tmp_path / 'x.json'}"])
        said = capsys.readouterr().err
        assert code in (0, 2) and "Traceback" not in said


BAD = {
    "an array": (cells(), "holds an array of uint16"),
    "a list": ([content(cells())] * 2, "several objects"),
    "no masks": ({"outlines": cells()}, "has no array 'masks'"),
    "masks as a list": (content(cells().tolist()), "has no array 'masks'"),
    "a stack": (content(np.stack([cells()] * 4)), r"masks of the shape \[4, 30, 40\], a stack"),
    "floats": (content(cells(np.float32)), "masks of float32"),
    "negative": (content(cells(np.int32) - 1), "or below 0"),
    "complex": (content(cells(np.complex64)), "has no array 'masks'"),
    "another size": (content(cells()[:-1]), "40 x 29"),
    "size 0": (content(cells()[:0]), "40 x 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_a_sentence(case, tmp_path, capsys):
    data, words = BAD[case]
    folder = write(tmp_path / "set", data)
    said = refused(tmp_path, capsys, folder, "cellpose")
    assert re.search(words, said) and "a_seg.npy" in said and said.count("\n") == 1, said


def test_missing_images(tmp_path, capsys):
    folder = write(tmp_path / "set", content(cells()))
    (folder / "a.png").unlink()
    assert "names the image 'a', which is not in" in refused(tmp_path, capsys, folder, "cellpose")
    (folder / "a_seg.npy").unlink()
    assert "holds no files *_seg.npy" in refused(tmp_path, capsys, folder, "cellpose")
