"""What is read from a store: copied once, copied again when it has changed, whole or not at all."""

import io
import json
import time

import numpy as np
import pytest
from detectors import flat, random_model, small_config
from PIL import Image

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.config.recipe_files import find_config
from jaxmaskrcnn.data import prepare, write_landscapes, write_shapes
from jaxmaskrcnn.data.inputs import find_files, read_image
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores import filesystem
from jaxmaskrcnn.stores.copies import local_copy, with_addresses
from jaxmaskrcnn.stores.filesystem import local_or_stored
from jaxmaskrcnn.stores.sending import send


@pytest.fixture
def gets(store, monkeypatch):
    """The files that the store was asked for, in their order; fails before `failures` are used up."""
    asked, get = [], type(store).get_file

    def counting(self, path, local, **options):
        asked.append(path)
        if asked.failures:
            raise asked.failures.pop(0)
        return get(self, path, local, **options)

    class Asked(list):
        failures: list = []

    asked = Asked()
    asked.failures = []
    # The store's own method, of fsspec, so that what is asked for can be counted.
    monkeypatch.setattr(type(store), "get_file", counting)
    return asked


@pytest.fixture
def no_pause(monkeypatch):
    """Tries follow each other at once."""
    monkeypatch.setattr(filesystem, "_PAUSE", 0.0)  # seconds, which a test need not wait


def test_a_file_is_copied_once_and_again_when_it_has_changed(store, gets):
    store.pipe("/b/a/train.json", b"one")
    path = local_copy("memory://b/a/train.json", "--annotations")
    assert path.read_bytes() == b"one"
    assert local_copy("memory://b//a/train.json", "--annotations") == path and len(gets) == 1
    time.sleep(0.01)
    store.pipe("/b/a/train.json", b"two")  # of the same size
    assert local_copy("memory://b/a/train.json", "--annotations").read_bytes() == b"two"
    assert len(gets) == 2


def test_a_copy_that_was_changed_or_cut_is_copied_again(store):
    store.pipe("/b/a.txt", b"whole")
    path = local_copy("memory://b/a.txt", "a")
    path.write_bytes(b"who")
    assert local_copy("memory://b/a.txt", "a").read_bytes() == b"whole"


def test_what_a_store_no_longer_has_is_gone_from_the_copy(store):
    store.pipe({"/b/f/1": b"1", "/b/f/x/2": b"2", "/b/g": b"3"})
    root = local_copy("memory://b/f", "a")
    other = local_copy("memory://b/g", "a")
    store.rm("/b/f/1")
    assert local_copy("memory://b/f/", "a") == root
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["2"] and other.is_file()


def test_a_store_that_fails_for_a_while_is_asked_again(store, gets, no_pause):
    store.pipe("/b/a", b"1")
    gets.failures += [OSError("busy"), TimeoutError("slow")]
    assert local_copy("memory://b/a", "a").read_bytes() == b"1" and len(gets) == 3


def test_a_store_that_fails_is_told_and_nothing_is_left(store, gets, no_pause, home):
    store.pipe("/b/a", b"1")
    gets.failures += [OSError("busy")] * 9
    with pytest.raises(jmr.UserError, match=r"^--images is memory://b/a, which cannot be read \(busy\)"):
        local_copy("memory://b/a", "--images")
    assert [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_file_that_arrives_in_part_is_no_copy(store, no_pause, monkeypatch, home):
    store.pipe("/b/a", b"123")
    # A store whose connection ends early without an error.
    monkeypatch.setattr(type(store), "get_file", lambda self, path, local: open(local, "wb").close())
    with pytest.raises(jmr.UserError, match="0 of 3 bytes of /b/a arrived"):
        local_copy("memory://b/a", "a")
    assert not (home / "stores" / "memory" / "b" / "a").exists()


def test_a_refusal_is_told_at_once(store, gets):
    store.pipe("/b/a", b"1")
    gets.failures += [PermissionError("no access")]
    with pytest.raises(jmr.UserError, match="no access"):
        local_copy("memory://b/a", "a")
    assert len(gets) == 1


def test_names_that_lead_out_of_the_folder_are_refused(store, home):
    store.pipe("/b/f/1", b"1")
    store.store["/b/f/../../evil"] = store.store["/b/f/1"]
    with pytest.raises(jmr.UserError, match="leads out of it"):
        local_copy("memory://b/f", "a")


@pytest.fixture
def data(store, tmp_path):
    """A data set of six images on disk, and in the store beside files that it does not name."""
    annotations, images = write_shapes(tmp_path / "shapes", 6, 32, seed=0)
    store.put_file(str(annotations), "/b/train.json")
    store.pipe({f"/b/images/{path.name}": path.read_bytes() for path in images.iterdir()})
    store.pipe({f"/b/images/other/{i}.png": b"x" for i in range(3)})
    return annotations, images


def test_a_data_set_in_a_store_has_the_records_of_the_one_on_disk(data, gets, tmp_path):
    local = prepare(*data, tmp_path / "cache")
    stored = prepare("memory://b/train.json", "memory://b/images", tmp_path / "cache")
    assert len(stored) == len(local) == 6
    for i in range(6):
        assert stored[i].image == local[i].image and stored[i].rles == local[i].rles
    assert len(gets) == 7  # not the files that the json does not name
    prepare("memory://b/train.json", "memory://b/images", tmp_path / "cache")
    assert len(gets) == 7


def test_a_panoptic_json_in_a_store_is_refused(store, tmp_path):
    annotations, images = write_landscapes(tmp_path, 1, 64, seed=0)
    store.pipe("/b/annotations.json", annotations.read_bytes())
    with pytest.raises(UserError, match="memory://b/annotations.json is a panoptic json in a store, whose"):
        prepare("memory://b/annotations.json", images, tmp_path / "cache")


def test_a_changed_image_is_copied_and_prepared_again(data, store, gets, tmp_path):
    prepare("memory://b/train.json", "memory://b/images", tmp_path / "cache")
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 7, np.uint8)).save(buffer, "PNG")
    store.pipe("/b/images/000002.png", buffer.getvalue())
    again = prepare("memory://b/train.json", "memory://b/images", tmp_path / "cache")
    assert len(gets) == 8 and (again[2].pixels() == 7).all()


def test_files_are_found_by_the_last_parts_of_their_paths_as_on_disk(data, store, gets, tmp_path):
    content = json.loads(store.cat("/b/train.json"))
    for entry in content["images"]:
        entry["file_name"] = f"C:\\data\\{entry['file_name'].upper()}"
    store.pipe("/b/other.json", json.dumps(content).encode())
    assert len(prepare("memory://b/other.json", "memory://b/images", tmp_path / "cache")) == 6
    assert not any("other/" in path for path in gets)


def test_an_image_that_is_missing_is_named_by_its_address(data, store, capsys):
    store.rm("/b/images/000001.png")
    code = main(["inspect", "memory://b/train.json", "--images=memory://b/images", "--count=0"])
    said = capsys.readouterr()
    assert code == 2 and "memory://b/train.json" in said.out and "000001.png" in said.out
    assert "stores/memory" not in said.out + said.err


def test_images_to_predict_are_files_or_a_folder(data, store, gets):
    store.pipe("/b/images/note.txt", b"x")
    found = find_files(["memory://b/images", "memory://b/images/000000.png"], [".png", ".jpg"])
    assert [path.name for path in found] == [f"00000{i}.{'jpg' if i == 3 else 'png'}" for i in range(6)]
    assert len(gets) == 6
    same = read_image(data[1] / "000000.png") == read_image("memory://b/images/000000.png")
    assert same.all()


def test_a_model_directory_and_a_file_of_weights(store, monkeypatch):
    model, order, pipe = random_model(small_config()), [], type(store).pipe_file

    def pipe_file(self, path, value, **options):
        order.append(path)
        return pipe(self, path, value, **options)

    monkeypatch.setattr(type(store), "pipe_file", pipe_file)  # to see what is sent last
    jmr.save_model(model, "memory://b/model")
    assert order[-1] == "/b/model/model.json" and len(order) > 5
    read = jmr.load_model("memory://b/model")
    assert read.config == model.config
    for name, value in flat(model).items():
        np.testing.assert_array_equal(flat(read)[name], value)
    first = {path.split("/")[3] for path in store.find("/b/model")}
    jmr.save_model(model, "memory://b/model")  # replaces it, with its arrays
    second = {path.split("/")[3] for path in store.find("/b/model")}
    assert len(first) == len(second) == 2 and first & second == {"model.json"}
    store.pipe("/b/full/a.txt", b"1")
    with pytest.raises(jmr.UserError, match="memory://b/full is not empty and holds no model"):
        jmr.save_model(model, "memory://b/full")
    store.pipe("/b/a.npz", b"no weights")
    with pytest.raises(jmr.UserError, match="a.npz"):
        jmr.load_model("memory://b/a.npz")


def test_a_recipe_with_an_argument(store):
    store.pipe(
        "/b/mine.py", b"from jaxmaskrcnn.config import Config\ndef get_config(a):\n    return Config()\n"
    )
    file = find_config("memory://b/mine.py:text")
    assert file.arguments == ("text",) and file.load().data.source == "coco"


def test_what_a_command_writes_is_sent(store, home, tmp_path, capsys):
    lines = [{"step": i, "loss": 1.0 / i, "loss_mask": 0.5} for i in (1, 2)]
    store.pipe("/b/run/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    assert main(["plot", "memory://b/run"]) == 0
    assert main(["plot", "memory://b/run", "--output=memory://b/a/b.png"]) == 0
    for path in ("/b/run/metrics.png", "/b/a/b.png"):
        assert store.cat(path).startswith(b"\x89PNG")
    assert capsys.readouterr().out.splitlines()[1].endswith(" are in memory://b/a/b.png")
    assert not list((home / "outgoing").iterdir())


def test_what_cannot_be_sent_is_kept(store, home, no_pause, monkeypatch, capsys):
    store.pipe("/b/run/metrics.jsonl", b'{"step": 1, "loss": 1.0}\n')

    def fails(*_, **__):
        raise OSError("no quota")

    for name in ("put_file", "pipe_file"):
        monkeypatch.setattr(type(store), name, fails)  # a store that takes nothing
    assert main(["plot", "memory://b/run", "--output=memory://b/a.png"]) == 2
    said = capsys.readouterr().err
    assert "memory://b/a.png, which cannot be written (no quota)" in said
    kept = said.strip().rpartition(" is kept in ")[2].rstrip(".")
    assert [path.name for path in (home / "unsent").rglob("*.png")] == ["a.png"] and kept.startswith(
        str(home)
    )


def test_a_large_file_is_sent(store, tmp_path):
    (tmp_path / "large").write_bytes(bytes(range(256)) * 2**15 + b"end")
    send(tmp_path, local_or_stored("memory://b/c", "--output"), ["large"])
    assert store.cat("/b/c/large") == (tmp_path / "large").read_bytes()


def test_paths_of_copies_are_shown_as_addresses(home):
    text = f"{home}/stores/gs/bucket/a.json and {home}/outgoing/{'0' * 16}/s3/b/c and {home}/weights/x"
    assert with_addresses(text) == f"gs://bucket/a.json and s3://b/c and {home}/weights/x"
