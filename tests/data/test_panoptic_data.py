"""COCO's panoptic json and pictures: read, checked, stored, transformed with their image, and learned."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config import Config, ConfigError, DataConfig, ModelConfig
from jaxmaskrcnn.data import prepare, train_iterator, write_landscapes, write_shapes
from jaxmaskrcnn.data.augment.copy_paste import paste
from jaxmaskrcnn.data.augment.scene import Scene
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.semantic import SemanticMap
from jaxmaskrcnn.data.inspection.inspect import inspect_annotations
from jaxmaskrcnn.data.inspection.report import as_text
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.data.transforms import Geometry
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.run_config import model_section, to_model_config
from jaxmaskrcnn.training.setup import prepare_sources
from jaxmaskrcnn.zoo.lookup import model_config

HEIGHT, WIDTH = 24, 32
CATEGORIES = [
    {"id": 7, "name": "cat", "isthing": 1}, {"id": 3, "name": "dog", "isthing": 1},
    {"id": 40, "name": "sky", "isthing": 0}, {"id": 20, "name": "grass", "isthing": 0},
]  # fmt: skip
SEGMENTS = [
    {"id": 5, "category_id": 40, "iscrowd": 0}, {"id": 300, "category_id": 7, "iscrowd": 0},
    {"id": 70001, "category_id": 3, "iscrowd": 1}, {"id": 9, "category_id": 20, "iscrowd": 0},
]  # fmt: skip


def numbers():
    """Sky above grass, a cat and a crowd of dogs in front, and a column that nobody annotated."""
    values = np.full((HEIGHT, WIDTH), 9)
    values[:10] = 5
    values[6:14, 4:12] = 300
    values[12:20, 16:30] = 70001
    values[:, 31] = 0
    return values


def labels():
    """The labels of the pixels: grass, of the lower id, is 1 and sky 2."""
    table = {0: 255, 5: 2, 9: 1, 300: 0, 70001: 0}
    return np.vectorize(table.get)(numbers()).astype(np.uint8)


def written(folder: Path, values=None, images=None, annotations=None, categories=None) -> tuple[Path, Path]:
    """A panoptic data set of one image, with changes."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    (folder / "train").mkdir(exist_ok=True)
    pixels = np.random.RandomState(0).randint(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "photos" / "a.png")
    values = numbers() if values is None else values
    colours = np.stack([values % 256, values // 256 % 256, values // 65536], -1).astype(np.uint8)
    Image.fromarray(colours).save(folder / "train" / "a.png")
    usual = [{"id": 11, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    content = {
        "images": usual if images is None else images,
        "annotations": annotations or [{"image_id": 11, "file_name": "a.png", "segments_info": SEGMENTS}],
        "categories": categories or CATEGORIES,
    }
    (folder / "train.json").write_text(json.dumps(content))
    return folder / "train.json", folder / "photos"


def prepared(folder, **changes):
    return prepare(*written(folder, **changes), folder / "cache")


def test_records(tmp_path):
    source = prepared(tmp_path)
    assert [c.name for c in source.categories] == ["dog", "cat"]
    assert [(c.id, c.name) for c in source.stuff] == [(20, "grass"), (40, "sky")]
    example = source[0]
    assert (source.object_counts[0], source.crowd_counts[0]) == (1, 1)
    assert example.labels.tolist() == [1, 0] and example.crowd.tolist() == [False, True]
    np.testing.assert_array_equal(example.masks(), [numbers() == 300, numbers() == 70001])
    np.testing.assert_array_equal(SemanticMap.decode(example.semantic).labels, labels())


def test_records_are_made_anew_when_a_picture_changes(tmp_path):
    first = prepared(tmp_path)
    assert prepare(*written(tmp_path), tmp_path / "cache").stuff == first.stuff
    values = numbers()
    values[0, 0] = 9
    second = prepared(tmp_path, values=values)
    assert second.directory != first.directory
    assert SemanticMap.decode(second[0].semantic).labels[0, 0] == 1


def test_other_data_sets_have_no_stuff(tmp_path):
    source = prepare(*write_shapes(tmp_path, 1, 64, seed=0), tmp_path / "cache")
    assert source.stuff is None and source[0].semantic == b""


def segments(**changes):
    return [
        {"image_id": 11, "file_name": "a.png", "segments_info": [{**SEGMENTS[0], **changes}, *SEGMENTS[1:]]}
    ]


OTHER_SIZE = [{"id": 11, "file_name": "a.png", "height": HEIGHT + 1, "width": WIDTH}]
SECOND = [*segments(), {"image_id": 12, "file_name": "a.png", "segments_info": []}]
FAULTS = [
    ({"images": OTHER_SIZE}, "a.png is 32 x 24 pixels, and its image 32 x 25; give the picture of"),
    ({"annotations": segments(id=6)}, "has the segment 6, of which .* has no pixel; correct its"),
    ({"values": np.where(numbers() == 5, 77, numbers())}, "has the segment 5, of which .* has no pixel"),
    ({"annotations": [{**segments()[0], "segments_info": SEGMENTS[1:]}]}, "has pixels of the segment 5,"),
    ({"annotations": segments(category_id=99)}, "category_id 99, which 'categories' lacks"),
    ({"annotations": segments(id=300)}, "has the segment 300; give each segment a number of its own"),
    ({"annotations": segments(iscrowd="perhaps")}, "with the iscrowd 'perhaps'; give 0 or 1"),
    ({"annotations": [{**segments()[0], "file_name": None}]}, "has no file_name; give the name of"),
    ({"annotations": [{**segments()[0], "file_name": "b.png"}]}, "cannot be read .FileNotFoundError"),
    ({"annotations": SECOND}, "image 12 .entry 1. is of an image that 'images' lacks"),
    ({"annotations": [*segments(), *segments()]}, "is its second one; leave one of them"),
    ({"images": [*OTHER_SIZE, {**OTHER_SIZE[0], "id": 13}]}, "a.png is 32 x 24 pixels"),
]  # fmt: skip


@pytest.mark.parametrize("changes, said", FAULTS)
def test_faults_are_one_sentence(changes, said, tmp_path):
    path, images = written(tmp_path, **changes)
    found = inspect_annotations(path, images)
    reasons = {problem.reason for problem in found.problems}
    assert "bad segments" in reasons
    with pytest.raises(UserError, match=said) as error:
        prepare(path, images, tmp_path / "cache")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n", None])
def test_damaged_pictures(damage, tmp_path, capsys):
    path, images = written(tmp_path)
    picture = tmp_path / "train" / "a.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(UserError, match=r"has its segments in .*a\.png, which cannot be read"):
        prepare(path, images, tmp_path / "cache")
    assert command(["inspect", str(path), f"--images={images}", "--count=0"]) == 2
    out = capsys.readouterr().out
    assert "bad segments: 1" in out and "Traceback" not in out


def test_without_the_folder_of_pictures(tmp_path):
    path, images = written(tmp_path)
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="train.json needs the folder of its pictures, .*train; put it there"):
        prepare(path, images, tmp_path / "cache")


def test_images_with_faults_are_left_out(tmp_path):
    images = [{"id": i, "file_name": "a.png", "height": HEIGHT, "width": WIDTH} for i in (11, 12)]
    annotations = [*segments(), {**segments(id=6)[0], "image_id": 12}]
    path, folder = written(tmp_path, images=images, annotations=annotations)
    source = prepare(path, folder, tmp_path / "cache", "skip")
    assert len(source) == 1 and source.skipped == {"bad segments": 1}


def test_inspection(tmp_path):
    found = inspect_annotations(*written(tmp_path))
    assert not found.problems
    assert found.summary["stuff"] == [
        {"id": 20, "name": "grass", "images": 1}, {"id": 40, "name": "sky", "images": 1},
    ]  # fmt: skip
    assert "Stuff\n  class      id   images\n  grass      20        1\n" in as_text(found)


# -- transforms and targets


def panoptic_model(**changes):
    changes = {"semantic.dim": 32, "input.pad_divisor": 32, **changes}
    return model_config("jaxmaskrcnn/landscapes", num_classes=2, **changes)


def test_labels_follow_crop_flip_and_window():
    map_ = SemanticMap(labels())
    config = panoptic_model()
    mirrored = map_.transform(Geometry.resize((HEIGHT, WIDTH), (HEIGHT, WIDTH), True), config)
    np.testing.assert_array_equal(mirrored.labels, labels()[:, ::-1])
    doubled = map_.transform(Geometry.resize((HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH)), config)
    np.testing.assert_array_equal(doubled.labels, np.kron(labels(), np.ones((2, 2), np.uint8)))
    cut = map_.transform(Geometry((2, 4, 20, 24), 0.0, (20, 24), False, (5, 6, 10, 12)), config)
    np.testing.assert_array_equal(cut.labels, labels()[7:17, 10:22])
    turned = map_.transform(
        Geometry((0, 0, HEIGHT, WIDTH), 180.0, (HEIGHT, WIDTH), False, (0, 0, HEIGHT, WIDTH)), config
    )
    assert (turned.labels == labels()[::-1, ::-1]).mean() > 0.9
    quarter = map_.transform(
        Geometry((0, 0, HEIGHT, WIDTH), 90.0, (HEIGHT, WIDTH), False, (0, 0, HEIGHT, WIDTH)), config
    )
    assert (quarter.labels[:, :3] == 255).all()  # nothing was there


def test_pasted_objects_are_things(tmp_path):
    example = prepared(tmp_path)[0]
    objects = ImageObjects.read(example, ("masks", "boxes", "semantic"))
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    other = Scene(
        pixels, objects.transform(Geometry.resize((HEIGHT, WIDTH), (HEIGHT, WIDTH), True), panoptic_model())
    )
    pasted = paste(Scene(pixels, objects), other, np.array([0])).objects.semantic.labels
    cat = (numbers() == 300)[:, ::-1]
    assert (pasted[cat] == 0).all()
    np.testing.assert_array_equal(pasted[~cat], labels()[~cat])


def test_batches_have_the_labels(tmp_path):
    source = prepared(tmp_path)
    config = to_model_config(model_section("jaxmaskrcnn/landscapes"), source.categories, stuff=source.stuff)
    assert (config.semantic.stuff, config.semantic.ids) == (("grass", "sky"), (20, 40))
    assert [c.id for c in config.known_stuff()] == [20, 40]
    data = DataConfig(batch_size=1, min_sizes=(HEIGHT,), max_size=WIDTH, flip=0.0, threads=0, prefetch=0)
    batch = next(iter(train_iterator(source, config, data, seed=0)))
    assert batch.targets.semantic.shape == (1, 32, 32)
    np.testing.assert_array_equal(batch.targets.semantic[0, :HEIGHT], labels())
    assert (batch.targets.semantic[0, HEIGHT:] == 255).all()


@pytest.mark.parametrize(
    "semantic, said",
    [
        (None, "image 0 has no 'semantic'; give the class of each pixel"),
        (np.zeros((3, 3), np.uint8), r"has uint8 semantic labels \[3, 3\]; give whole numbers \[24, 32\]"),
        (np.full((HEIGHT, WIDTH), 4), "has the semantic label 4; the model's are 0 for things, 1 to 3"),
        (np.zeros((HEIGHT, WIDTH)), "has float64 semantic labels"),
    ],
)  # fmt: skip
def test_targets_of_make_batch_are_checked(semantic, said):
    target = {"boxes": [[2, 2, 9, 9]], "labels": [0], "masks": np.ones((1, HEIGHT, WIDTH), bool)}
    if semantic is not None:
        target["semantic"] = semantic
    with pytest.raises(UserError, match=said):
        make_batch(panoptic_model(), [np.zeros((HEIGHT, WIDTH, 3), np.uint8)], [target])


# -- what makes no sense together


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"mask": None}, "mask is None, but segments of things are made of masks"),
        ({"neck": None, "backbone.outputs": (4,), "rpn.anchors.sizes": (32.0,)}, "adds up the levels of a"),
        ({"input.placement": "centre"}, "input.placement is 'centre', but semantic needs images"),
        ({"input.pad_divisor": 16}, "pad_divisor is 16, but semantic needs a multiple of .* 32"),
        ({"semantic.stuff": ("a", "a")}, "stuff has 2 names, 1 of them different"),
        ({"semantic.ids": (3, 4)}, "ids has 2 numbers, 2 of them different, for 53 classes"),
        ({"semantic.dim": 48}, "SemanticConfig.dim is 48, which the 32 groups"),
    ],
)  # fmt: skip
def test_models_that_make_no_sense(changes, said):
    start = ModelConfig().replace({"semantic": "pyramid"})
    with pytest.raises(ConfigError, match=said) as error:
        start.replace(changes)
    assert "\n" not in str(error.value)


def test_a_panoptic_model_on_c4_is_refused():
    with pytest.raises(
        ConfigError, match="adds up the levels of a pyramid, but with the neck None the levels"
    ):
        model_config("detectron2/mask_rcnn_R_50_C4_3x", **{"semantic": "pyramid"})


def test_data_without_segments_are_refused(tmp_path):
    config = Config(model=model_section("jaxmaskrcnn/landscapes"), data=DataConfig(source="shapes"))
    config.data.shapes.train_images = config.data.shapes.eval_images = 2
    config.data.shapes.size = 64
    with pytest.raises(UserError, match="model.semantic is set, but .* has no segments to learn stuff from"):
        prepare_sources(config, tmp_path)


def test_landscapes(tmp_path):
    """All kinds of stuff and of shapes are in them, and the same arguments give the same images."""
    source = prepare(*write_landscapes(tmp_path, 12, 64, seed=3), tmp_path / "cache")
    maps = [SemanticMap.decode(source[i].semantic).labels for i in range(len(source))]
    assert set(np.unique(maps)) == {0, 1, 2, 3, 255}
    for i, map_ in enumerate(maps):
        np.testing.assert_array_equal(map_ == 0, source[i].masks().any(0))
    again = prepare(*write_landscapes(tmp_path / "again", 12, 64, seed=3), tmp_path / "other")
    assert all((a[0].semantic, a[0].image) == (b[0].semantic, b[0].image) for a, b in [(source, again)])


# -- mistakes in whole jsons


@pytest.fixture(scope="module")
def landscapes(tmp_path_factory):
    return write_landscapes(tmp_path_factory.mktemp("landscapes"), 3, 32, seed=1)


def changed(landscapes, folder, change):
    """A copy of the json that `change` has changed, beside a copy of its pictures; and the images."""
    path, images = landscapes
    content = json.loads(path.read_text())
    change(content)
    shutil.copytree(path.with_suffix(""), folder / "set")
    (folder / "set.json").write_text(json.dumps(content))
    return folder / "set.json", images


def test_a_second_annotation_is_the_only_problem(landscapes, tmp_path):
    paths = changed(
        landscapes, tmp_path, lambda c: c["annotations"].append(copy.deepcopy(c["annotations"][0]))
    )
    found = inspect_annotations(*paths)
    assert [problem.reason for problem in found.problems] == ["bad segments"]
    assert "is its second one" in found.problems[0].message
    assert found.summary["images"] == 2


def test_a_first_annotation_without_segments(landscapes, tmp_path):
    paths = changed(landscapes, tmp_path, lambda c: c["annotations"][0].pop("segments_info"))
    found = inspect_annotations(*paths)
    assert [problem.reason for problem in found.problems] == ["bad segments"]
    assert "has no list 'segments_info'" in found.problems[0].message
    source = prepare(*paths, tmp_path / "cache", "skip")
    assert len(source) == 2 and source.stuff is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"][4].update(name="water"), "name 'water', which is no text, empty or also"),
        (lambda c: c["categories"][4].update(name=" "), "name ' ', which is no text"),
        (lambda c: c["categories"][4].update(name="\ud800"), "name '.ud800', which is no text"),
        (
            lambda c: c["categories"].extend(
                {"id": 10 + i, "name": str(i), "isthing": 0} for i in range(254)
            ),
            "has 257 classes of stuff, and a label of pixels is one of at most 254",
        ),
    ],
)  # fmt: skip
def test_stuff_that_cannot_be_learned(landscapes, tmp_path, change, message):
    paths = changed(landscapes, tmp_path, change)
    with pytest.raises(UserError, match=message):
        prepare(*paths, tmp_path / "cache")


def test_stuff_has_other_ids_than_things_that_are_not_known():
    config = model_config("jaxmaskrcnn/landscapes", num_classes=3)
    config = config.replace({"categories": (), "semantic.stuff": ("sky", "sea"), "semantic.ids": (4, 5)})
    assert [category.id for category in config.known_stuff()] == [4, 5]
    more = config.replace(num_classes=7)
    ids = [category.id for category in (*more.known_categories(), *more.known_stuff())]
    assert len(set(ids)) == 9
