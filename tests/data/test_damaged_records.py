"""Prepared records that a disk has changed: made anew, or refused with a sentence, never read as they are."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from folders import TESTS

from jaxmaskrcnn.data import prepare, write_shapes
from jaxmaskrcnn.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Annotations, images, and a folder of records with the content of all of them."""
    folder = tmp_path_factory.mktemp("records")
    annotations, images = write_shapes(folder, 9, 64, seed=0)
    source = prepare(annotations, images, folder / "cache")
    return annotations, images, folder / "cache", [content(source, i) for i in range(len(source))]


def content(source, index):
    item = source[index]
    return item.image, item.image_id, item.size, item.labels.tolist(), item.boxes.tolist(), item.rles


@pytest.fixture
def copy(made, tmp_path):
    """The same with records that a test may damage, and their folder."""
    annotations, images, cache, expected = made
    shutil.copytree(cache, tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "coco_instances").glob("annotations-*/1.0.0")
    return annotations, images, tmp_path / "cache", folder, expected


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position // 8] ^= 1 << position % 8
    path.write_bytes(bytes(data))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["index.npz", "source.json", "manifest.json", "record"])
@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_files_that_are_cut_or_gone_are_made_anew(copy, caplog, name, damage):
    annotations, images, cache, folder, expected = copy
    damage(next(folder.glob(f"*{name}*")))
    source = prepare(annotations, images, cache)
    assert [content(source, i) for i in range(len(source))] == expected
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert str(folder) in warning and warning.endswith("They are made anew.") and "\n" not in warning


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_in_what_is_read_at_the_start_is_seen_there(copy, caplog, seed):
    annotations, images, cache, folder, expected = copy
    rng = np.random.default_rng(seed)
    for name in ("index.npz", "source.json"):
        flip(folder / name, int(rng.integers(8 * (folder / name).stat().st_size)))
        source = prepare(annotations, images, cache)
        assert [content(source, i) for i in range(len(source))] == expected
    assert sum(r.getMessage().endswith("They are made anew.") for r in caplog.records) == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_in_a_record_is_an_error_and_the_records_are_made_anew(copy, seed):
    annotations, images, cache, folder, expected = copy
    (path,) = folder.glob("*array_record*")
    first = path.read_bytes().index(expected[0][0][:64])
    # Within the picture of the first record, which is stored as it is.
    flip(path, 8 * (first + 100) + seed)
    source = prepare(annotations, images, cache)
    with pytest.raises(UserError, match="are damaged .record 0: .* command again, which makes them anew"):
        source[0]
    source = prepare(annotations, images, cache)
    assert [content(source, i) for i in range(len(source))] == expected


def test_a_file_whose_index_is_gone_does_not_end_the_process(copy):
    """ArrayRecord then finds fewer records, and a request for another one is a segmentation fault."""
    annotations, images, cache, folder, expected = copy
    (path,) = folder.glob("*array_record*")
    size = path.stat().st_size
    data = path.read_bytes()[: size // 3]
    path.write_bytes(data + bytes(size - len(data)))
    source = prepare(annotations, images, cache)
    with pytest.raises(UserError, match="records in .* are damaged"):
        source[len(source) - 1]


def test_a_record_of_another_image_is_not_taken(copy, tmp_path):
    annotations, images, cache, folder, expected = copy
    other = json.loads(annotations.read_text()) | {"images": [], "annotations": []}
    whole = json.loads(annotations.read_text())
    for image in whole["images"]:
        other["images"].append(image | {"id": image["id"] + 1000})
    other["annotations"] = [a | {"image_id": a["image_id"] + 1000} for a in whole["annotations"]]
    (tmp_path / "other.json").write_text(json.dumps(other))
    prepare(tmp_path / "other.json", images, tmp_path / "others")
    (theirs,) = (tmp_path / "others").rglob("*array_record*")
    (ours,) = folder.glob("*array_record*")
    if theirs.stat().st_size != ours.stat().st_size:  # ids are numbers of as many bytes
        pytest.fail("the two files should be of one size")
    shutil.copyfile(theirs, ours)
    source = prepare(annotations, images, cache)
    with pytest.raises(UserError, match="record 0: it is that of image 1"):
        source[0]


def test_what_a_folder_says_of_python_modules_is_not_imported(copy, tmp_path):
    annotations, images, cache, folder, expected = copy
    module = tmp_path / "evil.py"
    module.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Features: pass\n")
    for path in folder.glob("*.json"):
        if path.name not in ("source.json", "manifest.json"):
            path.write_text(path.read_text().replace("tensorflow_datasets.core.features", "evil"))
    assert "evil" in (folder / "features.json").read_text()
    code = (
        "import sys; from jaxmaskrcnn.data import prepare\n"
        "source = prepare(*sys.argv[1:4]); print([source[i].image_id for i in range(len(source))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(annotations), str(images), str(cache)],
        capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(tmp_path)])},
    )  # fmt: skip
    assert done.stdout.strip() == str([entry[1] for entry in expected])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"names": [["a.png"]]}', '{"names": 3, "checksum": "0"}'])
def test_damaged_lists_of_file_names_are_made_anew(copy, text):
    annotations, images, cache, folder, expected = copy
    (names,) = (cache / "coco_instances").glob(".names-*.json")
    names.write_text(text)
    source = prepare(annotations, images, cache)
    assert source.directory == folder
    assert [content(source, i) for i in range(len(source))] == expected
