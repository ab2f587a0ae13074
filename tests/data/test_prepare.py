"""Writing records once, opening them again, and never using the wrong ones."""

import json
import multiprocessing
import os
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_helpers import TRIANGLE, annotation, content, random_set, write
from folders import ROOT
from pycocotools import mask as mask_utils

from jaxmaskrcnn.data import CocoConfig, CocoInstances, prepare
from jaxmaskrcnn.data.records import prepare as preparation
from jaxmaskrcnn.errors import UserError

SHARED = ROOT / ".." / "shared" / "data"


def uncompressed(mask):
    """Run lengths down the columns, starting with a run of zeros."""
    flat = mask.T.reshape(-1).astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def test_every_form_of_mask_gives_the_same_record(tmp_path):
    rle = mask_utils.merge(mask_utils.frPyObjects(TRIANGLE, 32, 40))
    forms = [TRIANGLE, {"size": [32, 40], "counts": rle["counts"].decode()}]
    path, images = write(tmp_path, content([annotation(i + 1, segmentation=f) for i, f in enumerate(forms)]))
    masks = prepare(path, images, tmp_path / "cache")[0].masks()
    columns = masks[0]
    data = content([annotation(1, segmentation=uncompressed(columns)), annotation(2)])
    path, images = write(tmp_path, data, name="uncompressed.json")
    example = prepare(path, images, tmp_path / "cache")[0]
    assert 100 < columns.sum() < 200
    for mask in (*masks, *example.masks()):
        np.testing.assert_array_equal(mask, columns)
    assert example.rles[0] == example.rles[1]
    assert example.polygons == ("", json.dumps(TRIANGLE))


def test_polygons_of_one_object_are_united_and_kept(tmp_path):
    polygons = [[2.5, 2, 12, 2, 12, 12, 2, 12], [8, 8.125, 20, 8, 20, 20, 8, 20]]
    path, images = write(tmp_path, content([annotation(segmentation=polygons, bbox=None, area=None)]))
    example = prepare(path, images, tmp_path / "cache")[0]
    parts = [mask_utils.frPyObjects([p], 32, 40)[0] for p in polygons]
    united = example.masks()[0]
    assert united.sum() == mask_utils.area(mask_utils.merge(parts)) == example.areas[0]
    assert united[5, 5] and united[15, 15] and not united[5, 15]
    assert json.loads(example.polygons[0]) == polygons
    rows, columns = np.flatnonzero(united.any(1)), np.flatnonzero(united.any(0))
    assert example.boxes[0].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_crowds_holes_in_category_ids_and_images_without_annotations(tmp_path):
    crowd = np.zeros((32, 40), bool)
    crowd[:10] = True
    categories = [{"id": 90, "name": "last"}, {"id": 3, "name": "first"}, {"id": 17, "name": "middle"}]
    entries = [
        annotation(5, 2, category_id=90, bbox=[-4, 0.5, 22, 18]),
        annotation(6, 2, category_id=3, iscrowd=1, segmentation=uncompressed(crowd), area=400.5),
        annotation(2, 1, category_id=17),
    ]
    data = content(entries, [(32, 40)] * 3, categories)
    data["images"].reverse()
    path, images = write(tmp_path, data)
    source = prepare(path, images, tmp_path / "cache")
    assert source.categories == ((3, "first"), (17, "middle"), (90, "last"))
    assert source.image_ids.tolist() == [1, 2, 3]
    assert source.object_counts.tolist() == [1, 1, 0] and source.crowd_counts.tolist() == [0, 1, 0]
    assert source.sizes.dtype == np.int32 and source.sizes.tolist() == [[32, 40]] * 3
    example = source[1]
    assert example.labels.tolist() == [2, 0] and example.crowd.tolist() == [False, True]
    assert example.boxes[0].tolist() == [0, 0.5, 18, 18.5]  # cut off at the image's border
    assert example.areas.tolist() == [144, 400.5]
    np.testing.assert_array_equal(example.masks()[1], crowd)
    empty = source[2]
    assert empty.boxes.shape == (0, 4) and empty.masks().shape == (0, 32, 40) and empty.labels.shape == (0,)
    with pytest.raises(IndexError):
        source[3]


def test_image_files_are_stored_untouched_and_sources_travel(tmp_path):
    path, images = random_set(tmp_path, [(20, 30), (40, 24)], formats=("png", "jpg"))
    source = prepare(path, images, tmp_path / "cache")
    first = source[0]
    copy = pickle.loads(pickle.dumps(source))
    for one in (source, copy):
        assert one[0].image == (images / "1.png").read_bytes()
        assert one[1].image == (images / "2.jpg").read_bytes()
        assert one[1].pixels().shape == (40, 24, 3)
    assert copy[0].rles == first.rles and copy.categories == source.categories


def test_records_are_written_once(tmp_path):
    path, images = random_set(tmp_path, [(20, 30)])
    first = prepare(path, images, tmp_path / "cache")
    before = {file: file.stat() for file in first.directory.iterdir()}
    assert prepare(path, images, tmp_path / "cache").directory == first.directory
    after = {file: file.stat() for file in first.directory.iterdir()}
    assert {f: (s.st_ino, s.st_mtime_ns) for f, s in before.items()} == {
        f: (s.st_ino, s.st_mtime_ns) for f, s in after.items()
    }


def test_changed_data_is_never_mistaken(tmp_path):
    path, images = write(tmp_path, content([annotation(1)]))
    cache = tmp_path / "cache"
    first = prepare(path, images, cache)
    path.write_text(path.read_text().replace("thing", "other"))
    second = prepare(path, images, cache)
    assert first.categories[0].name == "thing" and second.categories[0].name == "other"
    os.utime(images / "1.png", ns=(1, 1))
    third = prepare(path, images, cache)
    os.utime(images / "1.png", ns=(2, 2))
    fourth = prepare(path, images, cache)
    skip = prepare(path, images, cache, "skip")
    boxes = prepare(path, images, cache, masks=False)
    assert len({s.directory for s in (first, second, third, fourth, skip, boxes)}) == 6
    path.write_text(path.read_text().replace("other", "thing"))
    os.utime(images / "1.png", ns=(2, 2))
    assert prepare(path, images, cache).categories == first.categories


def test_an_interrupted_build_leaves_nothing_behind(tmp_path, monkeypatch):
    path, images = random_set(tmp_path, [(20, 30)] * 3)
    cache = tmp_path / "cache"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_index", interrupted)  # stands for Ctrl-C at that moment
        with pytest.raises(KeyboardInterrupt):
            prepare(path, images, cache)
    left = [p.name for p in (cache / "coco_instances").iterdir()]
    assert all(name.startswith((".names-", ".set-")) and "building" not in name for name in left)
    assert len(prepare(path, images, cache)) == 3


def test_a_build_that_was_killed_is_ignored(tmp_path):
    path, images = random_set(tmp_path, [(20, 30)] * 2)
    name = prepare(path, images, tmp_path / "elsewhere").directory.parent.name
    half = tmp_path / "cache" / "coco_instances" / f".{name}.building-x" / "coco_instances" / name / "1.0.0"
    half.mkdir(parents=True)
    assert len(prepare(path, images, tmp_path / "cache")) == 2


def _prepare_elsewhere(path, images, cache, barrier, results):
    barrier.wait()
    results.put(len(prepare(path, images, cache)))


def test_two_processes_prepare_the_same_data(tmp_path):
    path, images = random_set(tmp_path, [(20, 30)] * 8)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    worker = context.Process(
        target=_prepare_elsewhere, args=(path, images, tmp_path / "cache", barrier, results)
    )
    worker.start()
    barrier.wait(timeout=60)
    assert len(prepare(path, images, tmp_path / "cache")) == 8
    assert results.get(timeout=60) == 8
    worker.join()
    results.close()
    results.join_thread()
    directories = [p for p in (tmp_path / "cache" / "coco_instances").iterdir() if p.is_dir()]
    assert len(directories) == 1


def test_losing_a_race_without_locks_uses_the_winner(tmp_path, monkeypatch):
    path, images = random_set(tmp_path, [(20, 30)] * 2)
    first = prepare(path, images, tmp_path / "cache")
    config = CocoConfig(
        name=first.directory.parent.name, annotations=os.fspath(path), images=os.fspath(images)
    )
    same = config.name.rpartition("-")[2]
    preparation._build(config, tmp_path / "cache" / "coco_instances", lambda: same)
    assert len(prepare(path, images, tmp_path / "cache")) == 2


def test_boxes_alone_need_no_masks(tmp_path):
    path, images = write(tmp_path, content([annotation(segmentation=None, area=None)]))
    with pytest.raises(UserError, match="no segmentation"):
        prepare(path, images, tmp_path / "cache")
    source = prepare(path, images, tmp_path / "cache", masks=False)
    assert not source.has_masks and source[0].rles == (b"",)
    assert source[0].boxes.tolist() == [[2, 2, 20, 18]] and source[0].areas.tolist() == [18 * 16]


def test_the_builder_alone_works_with_tfds(tmp_path):
    path, images = random_set(tmp_path, [(20, 30), (30, 20)])
    config = CocoConfig(name="mine", annotations=os.fspath(path), images=os.fspath(images))
    builder = CocoInstances(config=config, data_dir=tmp_path / "tfds", file_format="array_record")
    builder.download_and_prepare()
    records = builder.as_data_source("data", decoders={"image": tfds.decode.SkipDecoding()})
    assert [int(record["image/id"]) for record in records] == [1, 2]
    assert builder.info.metadata["category_names"] == ["class 1", "class 2", "class 3"]


@pytest.mark.parametrize(
    ("annotations", "folder", "images", "objects", "crowds", "categories"),
    [
        ("balloon/train.json", "balloon/train", 61, 255, 0, 1),
        ("nuclei/val.json", "nuclei/val", 40, 965, 0, 1),
        ("coco/instances.json", "coco/images", 100, 960, 16, 80),
    ],
)
def test_real_sets(annotations, folder, images, objects, crowds, categories, tmp_path):
    if not SHARED.is_dir():
        pytest.skip("the real data sets are not beside the checkout")
    source = prepare(SHARED / annotations, SHARED / folder, tmp_path)
    counts = len(source), source.object_counts.sum(), source.crowd_counts.sum(), len(source.categories)
    assert counts == (images, objects, crowds, categories) and source.skipped == {}
    example = source[len(source) // 2]
    assert example.pixels().shape[:2] == example.masks().shape[1:] == example.size
