"""Work that is spread over processes gives the same results in the same order."""

import json
import os

import pytest
from data.test_plain_annotations import HEIGHT, WIDTH, random_content
from PIL import Image

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data.fields.packed import number_bytes, pack
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.processes import process_map


@pytest.mark.slow
def test_inspect_says_the_same_with_several_processes(tmp_path, capsys):
    """Some annotations are odd, one image is missing, one is no image and one has another size."""
    content = random_content(3, 2500)
    content["images"] = [
        {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in range(1, 200)
    ]
    for number, entry in enumerate(content["annotations"]):
        if type(entry["image_id"]) is int and entry["image_id"] < 9:
            entry["image_id"] = number % 199 + 1
    path, images = tmp_path / "set.json", tmp_path / "images"
    path.write_text(json.dumps(content))
    images.mkdir()
    for i in range(2, 200):
        Image.new("RGB", (WIDTH + (i == 7), HEIGHT)).save(images / f"{i}.png")
    (images / "150.png").write_bytes(b"{}")
    said = []
    for processes in (1, 2):
        options = [f"--images={images}", "--skip_decoding", "--count=0", "--json", f"--processes={processes}"]
        assert command(["inspect", str(path), *options]) == 2
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    found = json.loads(said[0])
    assert found["problem_counts"]["missing image"] == 1 and found["problem_counts"]["image size"] == 1
    assert found["problem_counts"]["corrupt image"] == 1 and found["objects"] > 1000


def test_results_come_in_order_and_few_items_are_read_ahead():
    read = []

    def items():
        for i in range(-40, 0):
            read.append(i)
            yield i

    with process_map(2) as mapped:
        assert mapped is not None
        found = []
        for value in mapped(abs, items()):
            found.append(value)
            assert len(read) <= len(found) + 5
    assert found == list(range(40, 0, -1))


def test_a_process_that_ends_is_a_sentence():
    with process_map(2) as mapped:
        assert mapped is not None
        with pytest.raises(UserError, match="has ended before its work was done.*--processes=1"):
            list(mapped(os._exit, [1, 1, 1]))


def test_no_processes_are_none(tmp_path, capsys):
    assert command(["inspect", str(tmp_path / "a.json"), "--processes=0"]) == 2
    assert "--processes is 0; give 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(("polygons", "lengths"), [
    ([[0.5, 1.5, 2.5, 3.5]], [4]), ([[1, 2.5, 3]], [3]), ([[0.5, 1.5], [2.5, 7, 3.5]], [2, 3]), ([[]], [0]),
    ([[0.5], [1.5, "2"]], []), ([[0.5, True]], []), ([{"x": 1}], []), ([[10**400, 1.5]], []), ([], []),
])  # fmt: skip
def test_numbers_of_packed_polygons(polygons, lengths):
    assert [len(part) // 9 for part in number_bytes(pack(polygons))] == lengths
