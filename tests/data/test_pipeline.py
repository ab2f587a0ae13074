"""Batches for training and evaluation: contents, resuming, sharing among processes."""

import json
import logging
import time

import jax
import numpy as np
import pytest
from data_helpers import annotation, content, encode, masks_of, random_set, same, write

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data import eval_batches, prefetch_to_device, prepare, train_iterator
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.prefetch import DataWait
from jaxmaskrcnn.data.preprocess import make_batch, resize_for
from jaxmaskrcnn.errors import UserError

MODEL = ModelConfig(num_classes=3).replace(
    {
        "input.test_min_size": 32,
        "input.test_max_size": 64,
        "input.pad_divisor": 16,
        "input.resize_kernel": "pil",
        "input.size_rule": "round_two_steps",
        "input.normalise_before_resize": False,
    }
)
SIZES = [(24, 36), (36, 24), (30, 30), (20, 40), (40, 22), (33, 44), (44, 33)]


def model(**changes):
    return ModelConfig().replace({f: getattr(MODEL, f) for f in MODEL.__dataclass_fields__} | changes)


def config(**changes):
    return DataConfig(**({"batch_size": 2, "min_sizes": (24, 32), "max_size": 48} | changes))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("set")
    return prepare(*random_set(directory, SIZES, formats=("png", "jpg")), directory / "cache")


def test_training_batches_equal_make_batch(source, batches):
    """Without a flip, a training image is what make_batch prepares at that size."""
    iterator = batches(source, MODEL, config(flip=0.0, min_sizes=(32,), max_size=64))
    for _ in range(5):
        batch = next(iterator)
        assert batch.images.dtype == np.uint8 and batch.valid.all()
        for i, index in enumerate(batch.index):
            example = source[index]
            target = {"boxes": example.boxes, "labels": example.labels, "masks": example.masks()}
            alone = make_batch(MODEL, [example.pixels()], [target])
            height, width = batch.image_sizes[i]
            same(batch.image_sizes[i], alone.image_sizes[0])
            same(batch.extents[i], alone.extents[0])
            same(batch.original_sizes[i], alone.original_sizes[0])
            resized = resize_for(MODEL, example.pixels(), (height, width))
            same(batch.images[i, :height, :width], resized)
            assert batch.images[i].sum() == resized.sum()
            count = len(example.labels)
            assert batch.targets.valid[i].tolist() == [k < count for k in range(iterator.max_objects)]
            same(batch.targets.boxes[i, :count], alone.targets.boxes[0])
            same(batch.targets.labels[i, :count], example.labels)
            extent = alone.extents[0]
            expected = masks_of(alone)[0]
            same(masks_of(batch)[i, :count, : extent[0], : extent[1]], expected)
            assert masks_of(batch)[i].sum() == expected.sum()


@pytest.mark.parametrize("kernel", ["pil", "torch"])
def test_flipped_batches_are_mirror_images(source, batches, kernel):
    changed = model(**{"input.resize_kernel": kernel})
    plain = batches(source, changed, config(flip=0.0))
    mirrored = batches(source, changed, config(flip=1.0))
    for _ in range(6):
        a, b = next(plain), next(mirrored)
        same(a.index, b.index)
        same(a.targets.valid, b.targets.valid)
        for i, (height, width) in enumerate(a.image_sizes.tolist()):
            same(a.images[i, :height, :width], b.images[i, :height, :width][:, ::-1])
            same(masks_of(a)[i, :, :height, :width], masks_of(b)[i, :, :height, :width][..., ::-1])
            x1, y1, x2, y2 = a.targets.boxes[i][a.targets.valid[i]].T
            expected = np.stack([width - x2, y1, width - x1, y2], axis=1)
            same(b.targets.boxes[i][b.targets.valid[i]], expected)
            assert not b.targets.boxes[i][~b.targets.valid[i]].any()


def test_the_torch_kernel_gives_normalised_floats(source, batches):
    batch = next(batches(source, ModelConfig(num_classes=3).replace({"input.test_min_size": 32}), config()))
    assert batch.images.dtype == np.float32 and batch.images.min() < -1
    height, width = batch.image_sizes[0]
    assert not batch.images[0, height:].any() and not batch.images[0, :, width:].any()


def test_resuming_gives_the_same_batches(source, batches):
    whole = batches(source, MODEL, config(prefetch=3, threads=2))
    expected = [next(whole) for _ in range(9)]
    state = None
    first = batches(source, MODEL, config(threads=0))
    for i in range(4):
        same(next(first), expected[i])
        state = first.get_state()
    state = json.loads(json.dumps(state))
    assert state == {"step": 4}
    restored = batches(source, MODEL, config(threads=1))
    next(restored)
    restored.set_state(state)
    started = batches(source, MODEL, config(), start_step=4)
    for i in range(4, 9):
        batch = next(restored)
        same(batch, expected[i])
        same(batch, next(started))
    first.set_state({"step": 0})
    same(next(first), expected[0])


def test_processes_share_a_batch(source, batches):
    whole = batches(source, MODEL, config(batch_size=4))
    parts = [batches(source, MODEL, config(batch_size=4), process_index=i, process_count=2) for i in (0, 1)]
    for _ in range(4):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *[next(part) for part in parts])
        same(joined, next(whole))
    with pytest.raises(UserError, match="data.batch_size is 2, which 3 processes"):
        train_iterator(source, MODEL, config(), seed=0, process_count=3)


def test_worker_processes_give_the_same_batches(source, batches):
    here = batches(source, MODEL, config())
    workers = batches(source, MODEL, config(processes=1), start_step=1)
    next(here)
    for _ in range(3):
        same(next(here), next(workers))
    workers.close()


def test_prefetched_batches_and_their_state(source, batches):
    plain = batches(source, MODEL, config())
    expected = [next(plain) for _ in range(6)]
    ahead = prefetch_to_device(batches(source, MODEL, config()), size=2)
    assert ahead.get_state() == {"step": 0}
    got = [next(ahead) for _ in range(3)]
    assert isinstance(got[0].images, jax.Array)
    assert ahead.get_state() == {"step": 3}
    for a, b in zip(got, expected, strict=False):
        same(a, b)
    ahead.set_state({"step": 1})
    same(next(ahead), expected[1])
    assert ahead.get_state() == {"step": 2}
    ahead.close()
    finite = prefetch_to_device([{"a": np.arange(3)}, {"a": np.arange(3) + 1}], size=5)
    assert [int(x["a"][0]) for x in finite] == [0, 1]


def test_inexact_decoding_is_for_training_on_large_jpegs_alone(source, batches):
    settings = {"flip": 0.0, "min_sizes": (16,), "exact_decode": False}
    iterator, smaller = batches(source, MODEL, config(**settings)), set()
    for batch in (next(iterator) for _ in range(6)):
        for pixels, index, size in zip(batch.images, batch.index, batch.image_sizes.tolist(), strict=True):
            example = source[index]
            decoded = decode_image(example.image, at_least=size)
            same(pixels[: size[0], : size[1]], resize_for(MODEL, decoded, size))
            if decoded.shape[:2] != example.size:
                assert example.file_name.endswith(".jpg") and min(example.size) >= 32
                smaller.add(int(index))
    assert len(smaller) == 1  # the largest of the JPEG files
    whole, inexact = (list(eval_batches(source, MODEL, config(exact_decode=e))) for e in (True, False))
    same(whole, inexact)


class Result:
    """A JAX array as far as its being ready goes."""

    def __init__(self, ready):
        self.ready = ready

    def is_ready(self):
        return self.ready


def test_a_wait_counts_where_nothing_is_being_computed():
    def slow():
        while True:
            time.sleep(0.02)
            yield "batch"

    wait, batches = DataWait(), slow()
    assert wait.next(batches, {"a": Result(True), "b": Result(False)}) == "batch" and wait.seconds == 0
    wait.next(batches, {"a": Result(True)})
    once = wait.seconds
    assert 0.02 <= once < 0.5
    wait.next(batches, ())
    assert wait.seconds >= once + 0.02
    with pytest.raises(StopIteration):
        wait.next(iter([]), ())


def test_evaluation_visits_every_image_once(source):
    data = config(eval_batch_size=3, max_canvases=2)
    batches = eval_batches(source, MODEL, data)
    for _ in range(2):  # it can be iterated again
        got = list(batches)
        assert len(got) == len(batches)
        index = np.concatenate([b.index for b in got])
        valid = np.concatenate([b.valid for b in got])
        assert sorted(index[valid]) == list(range(len(SIZES))) and (index[~valid] == -1).all()
    for batch in got:
        assert batch.targets is None and len(batch.index) == 3
        for i in np.flatnonzero(batch.valid):
            pixels = source[batch.index[i]].pixels()
            alone = make_batch(MODEL, [pixels])
            height, width = batch.image_sizes[i]
            same(batch.image_sizes[i], alone.image_sizes[0])
            same(batch.extents[i], alone.extents[0])
            same(batch.original_sizes[i], pixels.shape[:2])
            same(batch.images[i, :height, :width], resize_for(MODEL, pixels, (height, width)))
        assert (batch.image_sizes[~batch.valid] == 1).all() and not batch.images[~batch.valid].any()


def test_processes_share_an_evaluation(source):
    data = config(eval_batch_size=4)
    whole = eval_batches(source, MODEL, data)
    parts = [eval_batches(source, MODEL, data, process_index=i, process_count=2) for i in (0, 1)]
    assert len(parts[0]) == len(parts[1]) == len(whole)
    for batch, *shares in zip(whole, *parts, strict=True):
        same(jax.tree.map(lambda *x: np.concatenate(x), *shares), batch)
    with pytest.raises(UserError, match="data.eval_batch_size is 1, which 2 processes"):
        eval_batches(source, MODEL, config(), process_count=2)


def crowded(tmp_path, count=6):
    """An image with squares of growing size, the third one a crowd region."""
    entries = []
    for i in range(count):
        mask = np.zeros((64, 64), bool)
        mask[: 8 + 4 * i, : 8 + 4 * i] = True
        side = 8 + 4 * i
        entries.append(
            annotation(
                i + 1,
                bbox=[0, 0, side, side],
                segmentation=encode(mask),
                area=side**2,
                iscrowd=int(i == 2),
            )
        )
    path, images = write(tmp_path, content(entries, [(64, 64)]))
    return prepare(path, images, tmp_path / "cache")


def test_ground_truth_slots(tmp_path, batches, caplog):
    source = crowded(tmp_path)
    data = config(batch_size=1, flip=0.0, min_sizes=(64,), max_size=64)
    with caplog.at_level(logging.INFO, "jaxmaskrcnn"):
        iterator = batches(source, MODEL, data)
        assert iterator.max_objects == 8
        batch = next(iterator)
    assert "slots per image: 8 (at most 6 objects in an image)" in caplog.text
    assert batch.targets.valid.tolist() == [[True] * 6 + [False] * 2]
    assert batch.targets.crowd[0].tolist() == [False, False, True] + [False] * 5
    caplog.clear()
    data.max_objects = 4
    iterator = batches(source, MODEL, data)
    for _ in range(3):
        batch = next(iterator)
    assert batch.targets.boxes[0, :, 2].tolist() == [16, 20, 24, 28]  # the largest, in their order
    assert batch.targets.crowd[0].tolist() == [True, False, False, False]
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1 and "1 images of" in warnings[0].getMessage()
    with pytest.raises(UserError, match="data.max_objects is -1"):
        data.max_objects = -1


def test_objects_that_vanish_are_left_out(tmp_path, batches):
    tiny, thin, large = np.zeros((3, 128, 128), bool)
    tiny[1, 1] = thin[3, 10:17] = large[10:90, 10:90] = True
    entries = [
        annotation(1, bbox=[1, 1, 1, 1], segmentation=encode(tiny)),  # falls between the pixels kept
        annotation(2, bbox=[10, 3, 7, 1e-3], segmentation=encode(thin)),  # thinner than a thousandth
        annotation(3, bbox=[10, 10, 80, 80], segmentation=encode(large)),
    ]
    path, images = write(tmp_path, content(entries, [(128, 128)]))
    source = prepare(path, images, tmp_path / "cache")
    data = config(batch_size=1, min_sizes=(32,), max_size=32, flip=0.0)
    batch = next(batches(source, MODEL, data))
    assert batch.targets.valid.tolist() == [[True, False, False, False]]
    assert batch.targets.boxes[0, 0].tolist() == [2.5, 2.5, 22.5, 22.5]
    boxes_only = next(batches(source, model(**{"mask": None}), data))
    assert boxes_only.targets.masks is None and boxes_only.targets.valid.sum() == 2


def test_images_without_objects_train(tmp_path, batches):
    source = prepare(
        *random_set(tmp_path, [(32, 32)] * 2, counts=[0, 0]), tmp_path / "cache", allow_empty=True
    )
    batch = next(batches(source, MODEL, config()))
    assert not batch.targets.valid.any() and not batch.targets.masks.any()
    with pytest.raises(UserError, match="has no image to train on"):
        batches(source, MODEL, config(keep_empty=False))


def test_data_and_model_that_do_not_go_together(source, tmp_path):
    with pytest.raises(UserError, match="has 3 categories but the model's num_classes is 2"):
        train_iterator(source, model(num_classes=2), config(), seed=0)
    path, images = write(tmp_path, content([annotation(segmentation=None)]))
    boxes = prepare(path, images, tmp_path / "cache", masks=False)
    with pytest.raises(UserError, match="prepared without masks"):
        train_iterator(boxes, MODEL, config(), seed=0)


@pytest.mark.parametrize("processes", [0, 1])
def test_an_image_that_no_longer_decodes_is_named(tmp_path, batches, processes, monkeypatch):
    source = prepare(*random_set(tmp_path, [(32, 32)]), tmp_path / "cache")
    source.sizes[:] = 32
    source.file_names = ("renamed.png",)
    broken = Broken(source)
    iterator = batches(broken, MODEL, config(batch_size=1, processes=processes))
    with pytest.raises(Exception, match=r"image 1 \(renamed.png\) of .*set.json cannot be decoded") as caught:
        next(iterator)
    assert isinstance(caught.value, UserError)


class Broken:
    """A source whose image bytes are damaged after it was prepared."""

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        if name.startswith("__") or name == "_source":
            raise AttributeError(name)
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]._replace(image=b"damaged")
