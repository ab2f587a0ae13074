"""Names out of files in what commands print: shown, never obeyed by the terminal."""

import io
import json
import sys

import pytest
from PIL import Image

from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.cli.terminal import harmless_output

NAMES = {
    "escape codes": "cat\x1b[2J\x1b]0;title\x07",
    "another direction": "cat\u202etac",
    "eight bits": "cat\x9b31m",
    "long": "c" * 20_000,
}


def annotations(folder, class_name="cat", file_name="a.png"):
    (folder / "images").mkdir()
    Image.new("RGB", (64, 48)).save(folder / "images" / "a.png")
    square = {"image_id": 1, "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
    square["segmentation"] = [[4, 4, 24, 4, 24, 24, 4, 24]]
    content = {
        "images": [{"id": 1, "file_name": file_name, "height": 48, "width": 64}],
        "annotations": [{"id": 1, **square}],
        "categories": [{"id": 1, "name": class_name}],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return [str(folder / "a.json"), "--images", str(folder / "images"), "--output", str(folder / "sheet.png")]


def is_harmless(out, err):
    """Names on stdout, which another program may read, are whole."""
    words = err.split() or [""]
    return all(c.isprintable() or c in "\n\t\r" for c in out + err) and max(map(len, words)) < 400


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_class_names(tmp_path, capsys, name):
    assert main(["inspect", *annotations(tmp_path, class_name=name)]) == 0
    said = capsys.readouterr()
    assert "cat" in said.out or "ccc" in said.out
    assert is_harmless(said.out, said.err)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_file_names(tmp_path, capsys, name):
    assert main(["inspect", *annotations(tmp_path, file_name=f"{name}.png")]) == 2
    said = capsys.readouterr()
    assert is_harmless(said.out, said.err)


def test_a_class_whose_name_is_no_text_is_refused_by_every_command(tmp_path, capsys):
    arguments = annotations(tmp_path, class_name="\ud800")
    assert main(["inspect", *arguments]) == 2
    assert (
        r"category 1 has the name '\ud800', which is no text; give it another name" in capsys.readouterr().out
    )
    (tmp_path / "d.json").write_text("[]")
    report = ["report", str(tmp_path / "d.json"), *arguments[:3], "--output", str(tmp_path / "page")]
    assert main(report) == 2
    assert "which is no text; give it another name" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_the_streams_are_as_before_afterwards():
    out, err = sys.stdout, sys.stderr
    with harmless_output():
        assert sys.stdout is not out and sys.stdout.encoding == out.encoding
    assert sys.stdout is out and sys.stderr is err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_is_shown_long_names_cut_and_a_program_gets_them_whole(monkeypatch):
    for stream, longest in ((Terminal(), 300), (io.StringIO(), 5000)):
        monkeypatch.setattr(sys, "stdout", stream)
        with harmless_output():
            print("x" * 5000)
        assert max(map(len, stream.getvalue().split())) <= longest
    assert stream.getvalue() == "x" * 5000 + "\n"
