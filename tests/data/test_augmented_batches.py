"""Augmentation in the pipeline: plans, batches, resuming, and that nothing changes without it."""

import hashlib

import jax
import numpy as np
import pytest
from data_helpers import annotation, content, encode, masks_of, random_set, same, write

from jaxmaskrcnn.config import DataConfig, MaskConfig, ModelConfig
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.augment.copy_paste import choose_pasted, paste
from jaxmaskrcnn.data.augment.scene import transform_scene
from jaxmaskrcnn.data.sampler import TrainPlan
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.ops.resize import output_size

FIELDS = {
    "num_classes": 3,
    "input.test_min_size": 32,
    "input.test_max_size": 64,
    "input.pad_divisor": 16,
    "input.size_rule": "round_two_steps",
    "input.normalise_before_resize": False,
}
MODEL = ModelConfig().replace(FIELDS).replace({"input.resize_kernel": "pil"})
SIZES = [(24, 36), (36, 24), (30, 30), (20, 40), (40, 22), (33, 44), (44, 33)]
ALL = {
    "jitter_size": 64,
    "jitter_scale": (0.3, 2.0),
    "crop": 0.5,
    "rotate": 20.0,
    "photometric": 0.5,
    "copy_paste": 0.6,
}
# Drawn from so narrow a range that every image takes the way of the augmented ones unchanged.
NOTHING = {"crop": 1 - 1e-7, "photometric": 1e-12, "copy_paste": 1e-12}


def config(**changes):
    return DataConfig(**({"batch_size": 2, "min_sizes": (24, 32), "max_size": 48} | changes))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("set")
    return prepare(*random_set(directory, SIZES), directory / "cache")


@pytest.mark.parametrize(
    "kernel, expected",
    [
        ("cv2", "23a32216d93c73735c7531b21f2c542c266adf5e3a23de2a31e84fa667b1bf52"),
        ("torch", "84251bace60948a7d1519ec206e96a989f299a98936e74aee3613c7cd2eed643"),
    ],
)
def test_batches_without_augmentation_stay_as_they_were(source, batches, kernel, expected):
    """The digests were recorded before there was any augmentation."""
    digest = hashlib.sha256()
    iterator = batches(
        source, ModelConfig().replace(FIELDS).replace({"input.resize_kernel": kernel}), config()
    )
    for _ in range(12):
        for leaf in jax.tree.leaves(next(iterator)):
            leaf = np.ascontiguousarray(leaf)
            digest.update(str((leaf.dtype, leaf.shape)).encode() + leaf.tobytes())
    assert digest.hexdigest() == expected


@pytest.mark.parametrize("kernel", ["pil", "cv2", "torch"])
@pytest.mark.parametrize("mask_head", [True, False])
def test_neutral_parameters_change_no_bit(source, batches, kernel, mask_head):
    model = (
        ModelConfig()
        .replace(FIELDS)
        .replace({"input.resize_kernel": kernel, "mask": MaskConfig() if mask_head else None})
    )
    assert config(**NOTHING).augments and not config().augments
    plain = batches(source, model, config(max_objects=8))
    neutral = batches(source, model, config(max_objects=8, **NOTHING))
    assert neutral.plan(0).augment and not plain.plan(0).augment
    for _ in range(2 * plain.plan.steps_per_epoch):
        same(next(plain), next(neutral))


@pytest.mark.parametrize("field", ["jitter", "crop", "rotate", "photometric", "copy_paste"])
def test_each_transform_changes_batches(source, batches, field):
    on = {k: v for k, v in ALL.items() if k.startswith(field)}
    plain, changed = batches(source, MODEL, config()), batches(source, MODEL, config(**on))
    different = False
    for _ in range(4):
        a, b = next(plain), next(changed)
        different |= a.images.shape != b.images.shape or (a.images != b.images).any()
    assert different


def test_batches_hold_what_the_plan_says(source, batches):
    """Masks, boxes and pixels of every slot, from the plan and the scene functions."""
    iterator = batches(source, MODEL, config(batch_size=4, **ALL))
    pasted = 0
    for step in range(8):
        plan, batch = iterator.plan(step), next(iterator)
        assert batch.images.dtype == np.uint8 and batch.images.shape == (4, 64, 64, 3)
        masks = masks_of(batch)
        for i, slot in enumerate(plan.augment):
            scenes = []
            for image in (slot.image, slot.pasted):
                if image is not None:
                    example = source[image.index]
                    parts = image.geometry, image.distortion, MODEL, ("masks", "boxes")
                    scenes.append(transform_scene(example.pixels(), example, *parts))
            scene = scenes[0]
            if len(scenes) == 2:
                scene = paste(scene, scenes[1], choose_pasted(scenes[1].objects.crowd, slot.choice))
                pasted += len(scene.objects) > len(scenes[0].objects)
            height, width = scene.image.shape[:2]
            count = len(scene.objects)
            assert batch.image_sizes[i].tolist() == [height, width]
            assert batch.extents[i].tolist() == [-(-height // 16) * 16, -(-width // 16) * 16]
            assert batch.original_sizes[i].tolist() == source.sizes[plan.index[i]].tolist()
            same(batch.images[i, :height, :width], scene.image)
            assert batch.images[i].sum() == scene.image.sum()
            assert batch.targets.valid[i].sum() == count
            same(batch.targets.boxes[i, :count], scene.objects.boxes)
            for mask, piece in zip(masks[i], scene.objects.fields["masks"].pieces, strict=False):
                left, top, right, bottom = piece.box
                same(mask[top:bottom, left:right], piece.pixels)
                assert mask.sum() == piece.pixels.sum() > 0
            assert not masks[i, count:].any()
    assert pasted > 3


def test_boxes_contain_their_masks_tightly(source, batches):
    """The composition of all: annotated boxes of these rectangles are tight, so all stay so."""
    iterator = batches(source, MODEL, config(batch_size=4, **ALL))
    for _ in range(12):
        batch = next(iterator)
        masks = masks_of(batch)
        for i, g in zip(*np.nonzero(batch.targets.valid), strict=True):
            rows, columns = np.flatnonzero(masks[i, g].any(axis=1)), np.flatnonzero(masks[i, g].any(axis=0))
            tight = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert batch.targets.boxes[i, g].tolist() == tight  # all are turned


@pytest.mark.slow
def test_threads_processes_and_resuming_change_nothing(source, batches):
    data = {"batch_size": 4, **ALL}
    whole = batches(source, MODEL, config(**data, threads=3, prefetch=4))
    expected = [next(whole) for _ in range(6)]
    for options, start in (({"threads": 0}, 0), ({"threads": 1}, 3), ({"processes": 1}, 2)):
        iterator = batches(source, MODEL, config(**data, **options), start_step=start)
        for step in range(start, 6):
            same(next(iterator), expected[step])
        iterator.close()
    parts = [batches(source, MODEL, config(**data), process_index=i, process_count=2) for i in (0, 1)]
    for step in range(6):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *[next(part) for part in parts])
        same(joined, expected[step])
    other = batches(source, MODEL, config(**data), seed=1)
    assert any((next(other).images != batch.images).any() for batch in expected)


def test_one_transform_leaves_the_choices_of_the_others(source):
    alone = TrainPlan(source, MODEL, config(crop=0.5), 0)
    more = TrainPlan(source, MODEL, config(crop=0.5, rotate=9.0, photometric=0.5, copy_paste=0.5), 0)
    for step in range(6):
        for a, b in zip(alone(step).augment, more(step).augment, strict=True):
            assert a.image.geometry == b.image.geometry._replace(angle=0.0)
            assert abs(b.image.geometry.angle) <= 9 and a.pasted is None


def test_plans_stay_within_their_ranges(source):
    data = config(batch_size=4, **ALL)
    plan = TrainPlan(source, MODEL, data, 0)
    assert plan.canvases == [(64, 64)]
    scales, angles, happened, partners = [], [], [], set()
    for step in range(200):
        now = plan(step)
        assert now.canvas == (64, 64)
        for index, slot in zip(now.index, now.augment, strict=True):
            assert slot.image.index == index
            top, left, height, width = slot.image.geometry.crop
            whole = source.sizes[index]
            assert top >= 0 and left >= 0 and top + height <= whole[0] and left + width <= whole[1]
            assert (np.array([height, width]) >= 0.5 * whole - 0.5).all()
            scales.append(max(slot.image.geometry.size) / 64)
            angles.append(slot.image.geometry.angle)
            happened.append(slot.pasted is not None)
            window = slot.image.geometry.window
            assert max(window[2:]) <= 64
            assert window[2:] == tuple(min(n, 64) for n in slot.image.geometry.size)
            if slot.pasted is not None:
                partners.add(slot.pasted.index)
                assert all(a <= b for a, b in zip(slot.pasted.geometry.window[2:], window[2:], strict=True))
    assert 0.29 < min(scales) < 0.35 and 1.95 < max(scales) < 2.01
    assert -20 <= min(angles) < -19 and 19 < max(angles) <= 20
    assert 0.55 < np.mean(happened) < 0.65
    assert partners == set(range(len(SIZES)))


def test_crops_keep_the_canvases(source):
    """Without jitter a crop is resized as an image is, and shrunk where its canvas is too small."""
    data = config(crop=0.4, copy_paste=1.0, min_sizes=(32,))
    plan, plain = TrainPlan(source, MODEL, data, 0), TrainPlan(source, MODEL, config(min_sizes=(32,)), 0)
    assert plan.canvases == plain.canvases and plan.steps_per_epoch == plain.steps_per_epoch
    shrunk = 0
    for step in range(60):
        now = plan(step)
        same(now.index, plain(step).index)
        for slot in now.augment:
            for image in (slot.image, slot.pasted):
                geometry = image.geometry
                wanted = output_size(*geometry.crop[2:], 32, 48, "round_two_steps")
                fits = all(a <= b for a, b in zip(wanted, now.canvas, strict=True))
                if fits:
                    assert geometry.size == wanted
                else:
                    shrunk += 1
                    ratio = np.array(geometry.size) / wanted
                    assert (np.array(geometry.size) <= now.canvas).all()
                    assert abs(ratio[0] - ratio[1]) < 0.06 and ratio.max() < 1
    assert shrunk > 5


def crowd_source(tmp_path):
    """Image 1: a crowd region only; image 2: an object and a crowd region; image 3: nothing."""
    region, thing = np.zeros((2, 32, 32), bool)
    region[:, 16:] = thing[8:24, 2:12] = True
    entries = [
        annotation(1, 1, bbox=[16, 0, 16, 32], segmentation=encode(region), iscrowd=1),
        annotation(2, 2, bbox=[16, 0, 16, 32], segmentation=encode(region), iscrowd=1),
        annotation(3, 2, bbox=[2, 8, 10, 16], segmentation=encode(thing)),
    ]
    path, images = write(tmp_path, content(entries, [(32, 32)] * 3))
    return prepare(path, images, tmp_path / "cache")


def test_crowd_regions_and_empty_images(tmp_path, batches):
    source = crowd_source(tmp_path)
    data = config(batch_size=3, copy_paste=1.0, min_sizes=(32,), max_size=32, flip=0.0)
    iterator = batches(source, MODEL, data)
    for _ in range(4):
        batch = next(iterator)
        targets, masks = batch.targets, masks_of(batch)
        for i, index in enumerate(batch.index):
            valid, crowd = targets.valid[i], targets.crowd[i]
            # the partner is always image 2, whose one object is pasted and whose region is not
            assert valid.sum() == (2, 2, 1)[index] and crowd.sum() == (1, 1, 0)[index]
            pasted = valid.sum() - 1
            assert not crowd[pasted] and targets.boxes[i, pasted].tolist() == [2, 8, 12, 24]
            assert masks[i, pasted].sum() == 160
            same(batch.images[i, 8:24, 2:12], source[1].pixels()[8:24, 2:12])
            same(batch.images[i, :32, 12:32], source[index].pixels()[:, 12:])
    boxes = batches(source, MODEL, config(batch_size=3, **ALL))
    for _ in range(8):
        assert np.isfinite(next(boxes).targets.boxes).all()


def test_nothing_to_paste(tmp_path, batches):
    source = prepare(
        *random_set(tmp_path, [(32, 32)] * 2, counts=[0, 0]), tmp_path / "cache", allow_empty=True
    )
    batch = next(batches(source, MODEL, config(**ALL)))
    assert not batch.targets.valid.any() and batch.images.any()


def test_slots_for_pasted_objects(source, batches):
    largest = int(source.object_counts.max())
    slots = batches(source, MODEL, config(copy_paste=0.5)).max_objects
    assert slots == -(-2 * largest // 4) * 4
    limited = batches(source, MODEL, config(max_objects=2, **ALL))
    for _ in range(4):
        assert next(limited).targets.valid.shape == (2, 2)


def test_boxes_without_masks(source, tmp_path, batches):
    """A data set without masks is augmented, but nothing can be pasted."""
    model = ModelConfig().replace(FIELDS).replace({"input.resize_kernel": "pil", "mask": None})
    path, images = random_set(tmp_path, SIZES)
    boxes = prepare(path, images, tmp_path / "cache", masks=False)
    on = {k: v for k, v in ALL.items() if k != "copy_paste"}
    batch = next(batches(boxes, model, config(batch_size=4, **on)))
    assert batch.targets.masks is None and batch.targets.valid.any()
    with pytest.raises(UserError, match="data.copy_paste needs masks"):
        batches(boxes, model, config(copy_paste=0.5))
    pasted = next(batches(source, model, config(batch_size=4, **ALL)))
    same(pasted.targets.boxes, next(batches(source, MODEL, config(batch_size=4, **ALL))).targets.boxes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"jitter_size": 70}, "data.jitter_size is 70; give a positive multiple"),
        ({"jitter_size": -64}, "data.jitter_size is -64"),
        ({"jitter_scale": (0.1, 2.0)}, "data.jitter_size is 0; set the canvas size too"),
        ({"jitter_size": 64, "jitter_scale": (2.0, 0.1)}, "data.jitter_scale is"),
        ({"jitter_size": 64, "jitter_scale": (0.0, 1.0)}, "data.jitter_scale is"),
        ({"jitter_size": 64, "jitter_scale": (1.0,)}, "data.jitter_scale is"),
        ({"jitter_size": 64, "canvases": (64, 64)}, "leave data.canvases empty"),
        ({"crop": 0.0}, "data.crop is 0"),
        ({"crop": 1.5}, "data.crop is 1.5"),
        ({"rotate": -1.0}, "data.rotate is -1"),
        ({"photometric": 1.5}, "data.photometric is 1.5; give a number from 0 to 1"),
        ({"copy_paste": -0.5}, "data.copy_paste is -0.5; give a number from 0 to 1"),
    ],
)
def test_settings_that_cannot_work(source, changes, message):
    with pytest.raises(UserError, match=message):
        TrainPlan(source, MODEL, config(**changes), 0)
