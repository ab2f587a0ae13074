"""Model directories: bit-exact round trips, atomic writes, and the errors of what does not fit."""

import dataclasses
import functools
import gc
import json
import os
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from detectors import random_model
from flax import nnx

from jaxmaskrcnn.checkpoints import arrays as model_arrays
from jaxmaskrcnn.checkpoints import directory as model_directory
from jaxmaskrcnn.checkpoints.directory import config_from_json, config_to_json, load_model, save_model
from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config import json as config_json
from jaxmaskrcnn.convert import named_model
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models import new_models
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.utils.checksums import with_checksum
from jaxmaskrcnn.zoo.lookup import list_models, model_config

CONFIG = ModelConfig(
    num_classes=2, categories=(Category(3, "balloon"), Category(17, "kite, ünïcode"))
).replace(
    {
        "backbone.depth": 18,
        "backbone.width": 8,
        "backbone.norm": "bn_eval",
        "neck.channels": 8,
        "neck.norm": "bn",
        "box.fc_dim": 16,
        "mask.dim": 8,
        "mask.convs": 1,
        "rpn.loss.beta": 1.0 / 9.0,
        "box.loss.beta": 1.0 / 9.0,
    }
)


@functools.cache
def abstract(config):
    return nnx.split(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))


def make(config=CONFIG, seed=0):
    """A model with values that a lossy round trip would change."""
    rng = np.random.default_rng(seed)
    graphdef, shapes = abstract(config)

    def value(x):
        bits = rng.standard_normal(x.shape).astype(x.dtype)
        bits.ravel()[:4] = np.array([np.nan, -0.0, np.inf, 1e-45], x.dtype)[: bits.size]
        return jnp.asarray(bits)

    return nnx.merge(graphdef, jax.tree.map(value, shapes))


def arrays(model):
    return {".".join(map(str, path)): v for path, v in nnx.to_flat_state(nnx.state(model))}


def assert_same(a, b):
    a, b = arrays(a), arrays(b)
    assert list(a) == list(b)
    for name in a:
        assert type(a[name]) is type(b[name])
        x, y = np.asarray(a[name][...]), np.asarray(b[name][...])
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()), name


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "saved"
    save_model(make(), directory)
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    """A directory that a test may damage."""
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


def edit(directory, change):
    """Writes model.json as a release with other settings would have done."""
    file = directory / "model.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["checksum"]
    change(content)
    file.write_text(json.dumps(with_checksum(content)), encoding="utf-8")


def test_round_trip_is_bit_exact(saved):
    model = load_model(saved)
    assert_same(model, make())
    assert model.config == CONFIG
    assert model.categories == CONFIG.categories
    assert all(isinstance(v[...], jax.Array) for v in arrays(model).values())


@pytest.mark.slow_except("bfloat16")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_other_dtypes_are_kept(tmp_path, dtype):
    model = make()
    graphdef, state = nnx.split(model)
    model = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(dtype), state))
    assert model.backbone.body.conv1.kernel[...].dtype == dtype
    save_model(model, tmp_path / "m")
    assert_same(load_model(tmp_path / "m"), model)


def test_loading_draws_no_random_weights(saved, monkeypatch):
    traced = []

    def spy(config, *, rngs):
        traced.append(isinstance(rngs.params(), jax.core.Tracer))
        return MaskRCNN(config, rngs=rngs)

    # Only within the constructor it can be seen whether random numbers are computed.
    monkeypatch.setattr(new_models, "MaskRCNN", spy)
    # Shapes that were traced before are known, so this configuration is one of its own.
    load_model(saved, CONFIG.replace({"detections.score_threshold": 0.123}))
    assert traced == [True]


@pytest.mark.parametrize("name", list_models())
def test_config_json_round_trip(name):
    config = model_config(name)
    assert config_from_json(config_to_json(config)) == config


def test_file_names_every_field(saved):
    content = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    assert content["format_version"] == config_json.FORMAT_VERSION
    assert set(content["config"]) == {field.name for field in dataclasses.fields(ModelConfig)}
    assert content["config"]["categories"][0] == {"id": 3, "name": "balloon"}
    assert content["arrays"]["backbone.body.conv1.kernel"] == [[7, 7, 3, 8], "float32"]


def test_overwriting_a_model(tmp_path):
    directory = tmp_path / "m"
    save_model(make(seed=0), directory)
    save_model(make(seed=1), directory)
    assert_same(load_model(directory), make(seed=1))
    assert sorted(p.name.split("-")[0] for p in directory.iterdir()) == ["arrays", "model.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "m").mkdir()
    save_model(make(), tmp_path / "m")
    assert_same(load_model(tmp_path / "m"), make())


class Killed(BaseException):
    """A process that ends."""


# Before the model is published: `rename` is Orbax's, and `replace` that of the json in the staging folder.
STEPS = ["save", "write_json", "rename", "replace"]


@pytest.mark.parametrize("step", STEPS)
def test_a_write_that_is_stopped_leaves_the_old_model_or_the_new(saved, tmp_path, monkeypatch, step):
    """Ended before each of its steps in turn; nothing is cleaned up, as after a SIGKILL."""
    directory = tmp_path / "m"
    shutil.copytree(saved, directory)
    owner = {"save": model_arrays.ocp, "write_json": model_directory}.get(step, os)

    def stop(*args, **kwargs):
        raise Killed

    # Stands for a process that is killed at that step, and so cleans nothing up.
    with monkeypatch.context() as patch:
        patch.setattr(model_directory.shutil, "rmtree", lambda *args, **kwargs: None)
        patch.setattr(model_directory, "remove_leftovers", lambda *args: None)
        patch.setattr(owner, step, stop)
        with pytest.raises(Killed):
            save_model(make(seed=1), directory)
    assert_same(load_model(directory), make(seed=0))
    save_model(make(seed=2), directory)  # clears what was left behind
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert len(list(directory.iterdir())) == 2


def stopped_before(patch, directory, number):
    """Ends the process before the change with this number of the model directory itself.

    Changes in its staging folder, such as Orbax's, are not counted. Nothing is cleaned up after the end.

    Returns:
        Names of the changes that were made before.
    """
    made, ended = [], []

    def watched(function):
        def call(*paths, **keywords):
            places = [os.fspath(path) for path in paths if isinstance(path, str | os.PathLike)]
            own = any(os.path.dirname(place) == str(directory) or place == str(directory) for place in places)
            if ended:
                return None
            if own and len(made) == number:
                ended.append(function.__name__)
                raise Killed
            if own:
                made.append(function.__name__)
            return function(*paths, **keywords)

        return call

    for owner, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
        patch.setattr(owner, name, watched(getattr(owner, name)))
    return made


def test_a_model_is_replaced_in_steps_that_may_each_be_the_last(saved, tmp_path, monkeypatch):
    directory, read = tmp_path / "m", []
    for number in range(10):
        shutil.copytree(saved, directory)
        with monkeypatch.context() as patch:
            made = stopped_before(patch, directory, number)
            try:
                save_model(make(seed=1), directory)
                break
            except Killed:
                pass
        assert len(made) == number
        model = load_model(directory)  # the old model or the new one
        kernel = "rpn.cls_logits.kernel"
        seed = int(
            not np.array_equal(arrays(model)[kernel][...], arrays(make())[kernel][...], equal_nan=True)
        )
        assert_same(model, make(seed=seed))
        read.append(seed)
        save_model(make(seed=2), directory)  # clears what was left behind
        assert [p.name for p in tmp_path.iterdir()] == ["m"] and len(list(directory.iterdir())) == 2
        shutil.rmtree(directory)
    # The arrays are moved, then model.json; the old arrays are removed when the new model is there.
    assert number == 3 and read == [0, 0, 1]
    assert_same(load_model(directory), make(seed=1))


@pytest.mark.parametrize("step", ["save", "write_json", "rename"])
def test_a_first_write_that_is_stopped_leaves_nothing_to_read(tmp_path, monkeypatch, step):
    owner = {"save": model_arrays.ocp, "write_json": model_directory}.get(step, os)

    def stop(*args, **kwargs):
        raise Killed

    # Stands for a process that is killed at that step, and so cleans nothing up.
    with monkeypatch.context() as patch:
        patch.setattr(model_directory.shutil, "rmtree", lambda *args, **kwargs: None)
        patch.setattr(owner, step, stop)
        with pytest.raises(Killed):
            save_model(make(), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_other_peoples_directories_are_not_overwritten(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty and holds no model"):
        save_model(make(), tmp_path / "m")
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        save_model(make(), tmp_path / "file")


@pytest.mark.parametrize("change", ["another shape", "more", "fewer"])
def test_a_model_that_could_not_be_read_back_is_not_saved(tmp_path, change):
    model = make()
    if change == "another shape":
        model.box_head.cls_score = nnx.Linear(16, 7, rngs=nnx.Rngs(0))
    elif change == "more":
        model.box_head.extra = nnx.Param(jnp.zeros(3))
    else:
        model.mask_head = None
    message = "arrays are not those that its config builds .* load_model could not read it back; save its"
    with pytest.raises(UserError, match=message) as error:
        save_model(model, tmp_path / "m")
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_another_config_for_the_same_arrays(saved):
    model = load_model(saved, CONFIG.replace({"detections.score_threshold": 0.7, "categories": ()}))
    assert model.config.detections.score_threshold == 0.7
    assert model.categories == CONFIG.categories
    assert_same(model, make())
    with pytest.raises(UserError, match="does not fit the model that is asked for: ") as error:
        load_model(saved, "torchvision/maskrcnn_resnet50_fpn")
    assert "backbone.depth 18, here 50" in str(error.value) and "box.fc_dim 16, here 1024" in str(error.value)


@pytest.mark.slow
def test_new_heads_for_another_number_of_classes(saved, caplog):
    config = CONFIG.replace(num_classes=4, categories=())
    with pytest.raises(UserError, match="num_classes 2, here 4; .*allow_new_heads=True"):
        load_model(saved, config)
    old, new = arrays(load_model(saved)), arrays(load_model(saved, config, allow_new_heads=True))
    again = arrays(load_model(saved, config, allow_new_heads=True))
    heads = {name for name in new if new[name].shape != old[name].shape}
    assert heads == {
        f"{layer}.{kind}"
        for layer in ("box_head.cls_score", "box_head.bbox_pred", "mask_head.logits")
        for kind in ("kernel", "bias")
    }
    assert all(name in caplog.text for name in heads)
    for name in new:
        wanted = again if name in heads else old
        np.testing.assert_array_equal(new[name][...], wanted[name][...], err_msg=name)
    kernel = np.asarray(new["box_head.cls_score.kernel"][...])
    assert 0.005 < kernel.std() < 0.02 and np.all(np.asarray(new["box_head.cls_score.bias"][...]) == 0)


def test_a_number_of_classes_that_is_asked_for(saved):
    assert load_model(saved, num_classes=CONFIG.num_classes).config == CONFIG
    with pytest.raises(UserError, match="has 2 classes, but num_classes=4 asks for 4; leave the number out"):
        load_model(saved, num_classes=4)
    model = load_model(saved, num_classes=4, allow_new_heads=True)
    assert model.config == CONFIG.replace(num_classes=4, categories=())
    assert model.box_head.cls_score.kernel.shape[-1] == 5


def test_another_epsilon_and_a_config_file(saved, tmp_path, monkeypatch):
    assert load_model(saved, bn_eps=1e-3).config == CONFIG.replace({"backbone.norm_epsilon": 1e-3})
    assert load_model(saved, bn_eps=1e-3).backbone.body.bn1.epsilon == 1e-3
    with pytest.raises(UserError, match="bn_eps is -1"):
        load_model(saved, bn_eps=-1)
    (tmp_path / "config.yaml").write_text("")
    other = CONFIG.replace({"num_classes": 7, "categories": (), "detections.score_threshold": 0.7})
    # Reading config files is tested elsewhere; this one gives a configuration that fits the arrays.
    monkeypatch.setattr(named_model, "config_from_file", lambda path, training: other)
    config = load_model(saved, tmp_path / "config.yaml").config
    assert config == CONFIG.replace({"detections.score_threshold": 0.7})


class Position:
    """A data iterator's position."""

    def get_state(self):
        return {"step": 3}


def test_workdirs(saved, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    _, _, state = init_state(make(seed=5), nnx.Param, lambda params: optax.sgd(0.1))
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(state | {"step": jnp.int32(3)}, Position())
    (workdir / "config.json").write_text(config_to_json(CONFIG), encoding="utf-8")
    assert_same(load_model(workdir), make(seed=5))
    assert (
        load_model(
            workdir, CONFIG.replace({"detections.score_threshold": 0.7})
        ).config.detections.score_threshold
        == 0.7
    )
    shutil.copytree(saved, workdir / "best")
    assert_same(load_model(workdir), make())
    shutil.rmtree(workdir / "best")
    assert_same(load_model(workdir), make(seed=5))
    shutil.rmtree(workdir / "checkpoints" / "3")
    with pytest.raises(UserError, match="neither a model directory"):
        load_model(workdir)


def test_paths_that_are_no_directories(tmp_path):
    with pytest.raises(UserError, match="none does not exist"):
        load_model(tmp_path / "none")
    for name in ("model.pth", "R-50.pkl", "a.safetensors"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=f"{name} is damaged or not a checkpoint"):
            load_model(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(format_version=99), "format version 99.*update"),
        (lambda c: c.update(format="other"), "does not describe a model"),
        (lambda c: c["config"].update(zoom=3, tilt=1), "unknown to this release: tilt, zoom"),
        (lambda c: c["config"]["input"].update(zoom=3), "unknown to this release: input.zoom"),
        (lambda c: c["config"]["input"].update(size_rule="caffe"), "json: InputConfig.size_rule is 'caffe'"),
        (
            lambda c: c["config"]["backbone"].update(kind="vgg"),
            "backbone is a 'vgg', unknown to this release",
        ),
        (lambda c: c["config"].update(categories=[{"id": 1}]), "damaged: its config"),
        (lambda c: c.pop("config"), "damaged: it has no config"),
        (lambda c: c.pop("arrays"), "damaged: its list of arrays"),
        (lambda c: c.update(array_folder="arrays-0"), "arrays-0 is missing"),
        (lambda c: c.update(array_folder="../arrays-0"), "its arrays are not in"),
        (lambda c: c.update(array_folder="/tmp"), "its arrays are not in"),
    ],
)
def test_descriptions_that_do_not_fit(copy, change, match):
    edit(copy, change)
    with pytest.raises(UserError, match=match) as error:
        load_model(copy)
    assert str(copy) in str(error.value)


def test_a_field_that_was_added_later_has_its_default(copy):
    edit(copy, lambda c: c["config"]["detections"].pop("mask_threshold"))
    assert load_model(copy).config == CONFIG


def test_all_arrays_that_do_not_fit_are_listed(copy):
    def change(content):
        listed = content["arrays"]
        listed["surplus"] = [[3], "float32"]
        del listed["backbone.body.conv1.kernel"], listed["rpn.cls_logits.bias"]
        listed["rpn.bbox_pred.bias"] = [[5], "float32"]

    edit(copy, change)
    with pytest.raises(UserError) as error:
        load_model(copy)
    for words in (
        "2 missing:\n  backbone.body.conv1.kernel\n  rpn.cls_logits.bias",
        "1 not in the model:\n  surplus",
        "1 of another shape:\n  rpn.bbox_pred.bias (5,), in the model (12,)",
    ):
        assert words in str(error.value)


def flip_a_bit(path, position):
    content = bytearray(path.read_bytes())
    content[position // 8] ^= 1 << position % 8
    path.write_bytes(bytes(content))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")  # of Orbax, where it gives up
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_a_flipped_bit_never_goes_into_the_model(saved, tmp_path, seed):
    """The sentence names the directory or a file in it; where nothing is noticed, nothing has changed."""
    rng = np.random.default_rng(seed)
    files = [p.relative_to(saved) for p in sorted(saved.rglob("*")) if p.is_file() and p.stat().st_size]
    noticed = 0
    for i in range(15):
        directory = tmp_path / str(i)
        shutil.copytree(saved, directory)
        # model.json in every third turn, the largest files in another third.
        largest = max(files, key=lambda p: (saved / p).stat().st_size)
        name = (files[-1], largest, files[rng.integers(len(files))])[i % 3]
        flip_a_bit(directory / name, int(rng.integers(8 * (directory / name).stat().st_size)))
        try:
            model = load_model(directory)
        except UserError as error:
            assert str(directory) in str(error) and "\n" not in str(error)
            noticed += 1
            continue
        assert_same(model, make())
        assert model.config == CONFIG
    assert noticed >= 7
    time.sleep(1)  # so that the complaints of Orbax's unfinished reads fall into this test
    gc.collect()


def test_arrays_of_another_model_are_refused_by_name(saved, copy, tmp_path):
    save_model(make(seed=1), tmp_path / "other")
    (folder,), (other,) = copy.glob("arrays-*"), (tmp_path / "other").glob("arrays-*")
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    with pytest.raises(UserError, match=f"{folder.name} is damaged: its array backbone.* more differ from"):
        load_model(copy)


def test_model_json_may_be_edited_where_its_checksum_is_removed(copy):
    file = copy / "model.json"
    text = file.read_text(encoding="utf-8").replace('"score_threshold": 0.05', '"score_threshold": 0.25')
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match='model.json is damaged or was edited.*remove its line "checksum"'):
        load_model(copy)
    content = json.loads(text)
    del content["checksum"]
    file.write_text(json.dumps(content), encoding="utf-8")
    assert load_model(copy).config.detections.score_threshold == 0.25


# The first array that cannot be read ends Orbax's event loop; the reads of the others then complain that
# it is closed, from threads of their own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_files(copy):
    file = copy / "model.json"
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(UserError, match="damaged: it is not JSON"):
        load_model(copy)
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match="damaged: it is not JSON"):
        load_model(copy)
    file.write_text(whole, encoding="utf-8")
    (folder,) = copy.glob("arrays-*")
    for part in folder.rglob("d/*"):
        part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged and cannot be read"):
        load_model(copy)
    time.sleep(1)  # so that those complaints fall into this test
    gc.collect()
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="is missing; save the model again"):
        load_model(copy)


@pytest.mark.slow
def test_a_model_with_values_that_are_not_finite_says_so(tmp_path, caplog):
    model = random_model(CONFIG)
    save_model(model, tmp_path / "good")
    load_model(tmp_path / "good")
    assert "NaN" not in caplog.text
    model.box_head.cls_score.bias[...] = model.box_head.cls_score.bias[...].at[0].set(jnp.nan)
    save_model(model, tmp_path / "bad")
    load_model(tmp_path / "bad")
    assert "bad has NaN or infinite values in box_head.cls_score.bias; its detections will be" in caplog.text
    # Large values whose sum overflows are no such values.
    caplog.clear()
    model.box_head.cls_score.bias[...] = jnp.full_like(model.box_head.cls_score.bias[...], 3e38)
    save_model(model, tmp_path / "large")
    load_model(tmp_path / "large")
    assert "NaN" not in caplog.text


@pytest.mark.parametrize("number", ["3", True, 0, 2.5])
def test_a_number_of_classes_is_a_whole_number(saved, number):
    with pytest.raises(UserError, match="num_classes is .*; give a whole number of at least 1"):
        load_model(saved, num_classes=number)
