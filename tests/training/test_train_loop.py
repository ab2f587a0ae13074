"""A whole run in small: six steps of a tiny model on generated shapes, stopped and continued."""

import functools
import json
import logging

import jax
import numpy as np
import optax
import pytest
from detectors import flat
from flax import nnx
from small_runs import compilations, run_tiny, tiny_config

from jaxmaskrcnn.checkpoints import directory as model_directory
from jaxmaskrcnn.checkpoints.latest import latest_model
from jaxmaskrcnn.config import Config, ConfigError
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.convert import backbone
from jaxmaskrcnn.convert.export import export_detector
from jaxmaskrcnn.convert.files.reader import read_checkpoint, read_source
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training import first_weights, setup
from jaxmaskrcnn.training.first_weights import first_model
from jaxmaskrcnn.training.loop import train_and_evaluate
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.nonfinite import NonFiniteLossError
from jaxmaskrcnn.training.run_config import (
    check_resumable,
    model_section,
    to_model_config,
    write_settings,
)
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.zoo import lookup as presets

pytestmark = pytest.mark.usefixtures("quick_compilation")

LOSSES = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def make_config(cache):
    """A fresh config of the tiny run, with settings changed by dotted name."""
    return functools.partial(tiny_config, cache)


@pytest.fixture(scope="module")
def compiled():
    """Names of the functions that the run of `finished` compiled."""
    return []


@pytest.fixture(scope="module")
def finished(make_config, compiled, tmp_path_factory):
    """Workdir and metrics of a run of six steps without a break."""
    workdir = tmp_path_factory.mktemp("finished")
    with compilations() as names:
        metrics = train_and_evaluate(make_config(train__eval_loss=True), workdir)
    compiled += names
    return workdir, metrics


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_model(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_run_leaves_everything_in_its_workdir(finished):
    workdir, metrics = finished
    assert {"box_AP", "mask_AP", "per_class"} <= metrics.keys()
    assert json.loads((workdir / "metrics.json").read_text()) == metrics
    assert all(d["image_id"] for d in json.loads((workdir / "detections.json").read_text()))
    assert len(list((workdir / "pictures").glob("*.png"))) == 2
    assert sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()) == [3, 6]
    names = [category.name for category in model_directory.load_model(workdir).categories]
    assert names == ["circle", "square", "triangle"]


def test_a_run_compiles_each_of_its_programs_once(finished, compiled):
    for name in ("train_step", "detect", "validation_terms"):
        assert compiled.count(name) == 1, name


def test_metrics_lines(finished):
    workdir, metrics = finished
    training = [line for line in lines(workdir) if "loss" in line]
    assert [line["step"] for line in training] == [2, 4, 6]
    assert all(
        LOSSES | {"grad_norm", "learning_rate", "images_per_second", "data_wait"} <= line.keys()
        for line in training
    )
    assert all(line["images_per_second"] * line["seconds_per_step"] == pytest.approx(2) for line in training)
    assert all(100 < line["host_memory"] < 2**20 and line["time"] > 1.7e9 for line in training)
    for line in training:
        assert line["loss"] == pytest.approx(sum(line[name] for name in LOSSES), rel=1e-5)
    evaluations = [line for line in lines(workdir) if "eval/mask_AP" in line]
    assert [line["step"] for line in evaluations] == [3, 6]
    assert evaluations[-1]["eval/box_AP"] == metrics["box_AP"]


def test_the_final_model_is_the_last_checkpoint(finished):
    workdir, _ = finished
    model = latest_model(workdir)
    assert_same_model(model, model_directory.load_model(workdir / "model"))
    # Six steps moved the parameters and batch norm's statistics.
    start = flat(first_model(model.config, "", seed=0))
    end = flat(model)
    for name in ("box_head.cls_score.kernel", "backbone.body.bn1.mean"):
        assert np.abs(end[name] - start[name]).max() > 1e-6, name


@pytest.mark.slow  # test_killed.py has a quick one
def test_a_run_that_was_stopped_ends_bit_for_bit_like_one_that_was_not(
    finished, make_config, tmp_path, caplog
):
    calls = 0

    def stopping(step):
        def counted(*arguments):
            nonlocal calls
            calls += 1
            if calls == 4:  # beyond the checkpoint of step 3, so that the fourth is done twice
                raise KeyboardInterrupt
            return step(*arguments)

        return counted

    whole, whole_metrics = finished
    start = first_model(latest_model(whole).config, "", seed=0)
    with pytest.raises(KeyboardInterrupt):
        run_tiny(make_config(), tmp_path, model=start, around_step=stopping)
    # What a run that went on to step 5 before it was killed would have written.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1.0}\n{"step": 5, "lo')
    with caplog.at_level(logging.INFO, logger="jaxmaskrcnn"):
        metrics = train_and_evaluate(make_config(), tmp_path)
    assert "Continuing from step 3" in caplog.text
    assert_same_model(latest_model(tmp_path), latest_model(whole))
    assert metrics == whole_metrics
    assert [line["step"] for line in lines(tmp_path)] == [2, 3, 4, 6, 6]
    assert lines(tmp_path)[-1]["eval/mask_AP"] == lines(whole)[-1]["eval/mask_AP"]


def test_a_finished_run_is_not_trained_again(finished, make_config):
    workdir, metrics = finished
    before = (workdir / "metrics.jsonl").read_text()
    assert train_and_evaluate(make_config(), workdir) == metrics
    assert (workdir / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_step_and_images(make_config, tmp_path):
    seen = []

    def spoiled(step):
        def run(state, batch, key):
            seen.append(np.asarray(batch.index))
            if len(seen) == 5:
                boxes = batch.targets.boxes.at[...].set(np.nan)
                batch = batch._replace(targets=batch.targets._replace(boxes=boxes))
            return step(state, batch, key)

        return run

    with pytest.raises(NonFiniteLossError, match="Step 5 has") as error:
        run_tiny(make_config(train__eval_every=0), tmp_path, around_step=spoiled)
    source, _ = setup.prepare_sources(make_config(), tmp_path)
    assert str([int(source.image_ids[i]) for i in seen[4]]) in str(error.value)
    assert isinstance(error.value, UserError) and isinstance(error.value, FloatingPointError)
    assert all(np.isfinite(value).all() for value in flat(latest_model(tmp_path)).values())
    record = json.loads((tmp_path / "nonfinite-5.json").read_text())
    assert record["step"] == 5 and record["seed"] == 0 and record["positions"] == seen[4].tolist()
    assert record["image_ids"] == [int(source.image_ids[i]) for i in seen[4]]
    assert "nan" in record["metrics"].values()


def test_a_workdir_with_another_model_is_refused(finished, make_config):
    with pytest.raises(UserError, match=r"model\.box\.fc_dim \(was 8, is 16\)"):
        train_and_evaluate(make_config({"box.fc_dim": 16}), finished[0])
    with pytest.raises(UserError, match=r"optimizer\.freeze"):
        train_and_evaluate(make_config(optimizer__freeze=("backbone.*",)), finished[0])


def filled(config, value):
    """A model whose every number is ``value``, without the time that random weights take."""
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))
    return nnx.merge(
        graphdef, jax.tree.map(lambda x: jax.device_put(np.full(x.shape, value, x.dtype)), shapes)
    )


@pytest.fixture(scope="module")
def model_config(make_config):
    categories = tuple(Category(i, f"class {i}") for i in range(3))
    return to_model_config(make_config().model, categories)


def test_weights_of_another_number_of_classes_leave_the_heads_at_their_initial_values(model_config, caplog):
    other = model_config.replace(num_classes=5, categories=())
    model = filled(other, 0.0)
    first_weights.copy_weights(filled(model_config, 1.0), model, "trained")
    by_class = {name for name, value in flat(model).items() if (value == 0.0).all()}
    assert by_class == {
        "box_head.cls_score.kernel", "box_head.cls_score.bias", "box_head.bbox_pred.kernel",
        "box_head.bbox_pred.bias", "mask_head.logits.kernel", "mask_head.logits.bias",
    }  # fmt: skip
    assert all((value == 1.0).all() for name, value in flat(model).items() if name not in by_class)
    assert all(name in caplog.text for name in by_class)


def test_weights_of_another_architecture_are_refused(model_config):
    other = filled(model_config.replace({"box.fc_dim": 4}), 1.0)
    with pytest.raises(UserError, match="trained does not fit this run's model: box.fc_dim 4, here "):
        first_weights.copy_weights(other, filled(model_config, 0.0), "trained")


@pytest.mark.slow
def test_a_model_directory_is_a_start_for_training(finished, caplog):
    directory = finished[0] / "model"
    trained = model_directory.load_model(directory)
    model = first_model(trained.config, str(directory), seed=5)
    assert_same_model(model, trained)
    assert "other settings" not in caplog.text
    changed = trained.config.replace({"input.channel_order": "bgr"})
    first_model(changed, str(directory), seed=5)
    assert "other settings than this run's: input.channel_order 'rgb' (here 'bgr')" in caplog.text


@pytest.fixture(scope="module")
def checkpoint_file(model_config, tmp_path_factory):
    """A Detectron2 file with numbers unlike any initial value."""
    file = tmp_path_factory.mktemp("file") / "model_final.pkl"
    export_detector(filled(model_config, 0.25), file, "detectron2")
    return file


def start_model(config, weights, seed):
    """`first_model` with initial weights that equal the seed and take no time."""
    return first_model(config, weights, seed, init=lambda config, seed: filled(config, float(seed)))


def test_a_detectors_file_is_a_start_for_training(model_config, checkpoint_file, caplog):
    model = start_model(model_config, str(checkpoint_file), seed=5)
    assert_same_model(model, filled(model_config, 0.25))
    assert "other settings" not in caplog.text and "random values" not in caplog.text


def test_heads_of_another_number_of_classes_start_from_the_runs_seed(model_config, checkpoint_file, caplog):
    other = model_config.replace(num_classes=5, categories=())
    start = flat(start_model(other, str(checkpoint_file), seed=5))
    heads = {
        f"{layer}.{kind}"
        for layer in ("box_head.cls_score", "box_head.bbox_pred", "mask_head.logits")
        for kind in ("kernel", "bias")
    }
    for name, value in start.items():
        wanted = np.full_like(value, 5.0 if name in heads else 0.25)
        np.testing.assert_array_equal(value, wanted, err_msg=name)
    (warning,) = [r.getMessage() for r in caplog.records if "random values" in r.getMessage()]
    assert all(name in warning for name in heads)


def test_a_detectors_file_of_another_kind_is_refused(model_config, checkpoint_file):
    with pytest.raises(UserError, match=r"the given ModelConfig: box\.fc_dim 8, here 16; nothing"):
        start_model(model_config.replace({"box.fc_dim": 16}), str(checkpoint_file), seed=0)
    with pytest.raises(UserError, match="background class comes last"):
        start_model(model_config.replace(background="first"), str(checkpoint_file), seed=0)


def test_an_epsilon_that_a_file_shows_is_told(model_config, tmp_path, caplog):
    """Ordinary batch norm in torchvision's file, and a run with the epsilon of its published weights."""
    config = model_config.replace(
        {"background": "first", "backbone.norm": "bn", "backbone.norm_epsilon": 0.0}
    )
    export_detector(filled(config, 0.25), tmp_path / "m.npz", "torchvision")
    model = start_model(config, str(tmp_path / "m.npz"), seed=0)
    assert model.config == config
    assert "other settings than this run's: backbone.norm_epsilon 1e-05 (here 0.0)" in caplog.text


def test_a_backbones_file_is_still_a_backbone(model_config, checkpoint_file, tmp_path, monkeypatch):
    arrays = read_checkpoint(checkpoint_file)
    prefix = "backbone.bottom_up."
    np.savez(tmp_path / "R.npz", **{k.removeprefix(prefix): a for k, a in arrays.items() if prefix in k})
    opened = []
    # Counts how often the file is read.
    monkeypatch.setattr(first_weights, "read_source", lambda path: opened.append(path) or read_source(path))
    monkeypatch.setattr(backbone, "read_source", first_weights.read_source)
    start = flat(start_model(model_config, str(tmp_path / "R.npz"), seed=5))
    assert len(opened) == 1  # a file of gigabytes is read once
    for name, value in start.items():
        wanted = np.full_like(value, 0.25 if name.startswith("backbone.body.") else 5.0)
        np.testing.assert_array_equal(value, wanted, err_msg=name)


def test_frozen_patterns_leave_the_trained_parameters(model_config):
    model = filled(model_config, 1.0)
    everything, _ = nnx.state(model, trainable(model), ...)
    _, _, state = init_state(model, trainable(model, ("backbone.body.*",)), lambda p: optax.identity())
    left = {path for path, _ in nnx.to_flat_state(state["params"])}
    gone = {path for path, _ in nnx.to_flat_state(everything)} - left
    assert gone and all(path[:2] == ("backbone", "body") for path in gone)
    assert left and not any(path[:2] == ("backbone", "body") for path in left)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"train__steps": -1}, "train.steps"),
        ({"train__checkpoint_every": 0}, "train.checkpoint_every"),
        ({"data__source": "voc"}, "data.source"),
        ({"data__source": "coco"}, "data.train_annotations is not set"),
        ({"model__num_classes": 7}, "model.num_classes is 7"),
        ({"optimizer__learning_rate": -1.0}, "optimizer.learning_rate"),
    ],
)
def test_settings_that_cannot_work(make_config, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train_and_evaluate(make_config(**changes), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_unknown_settings_name_the_ones_alike():
    config = override(Config(), ["--config.train.steps=3", "--config.data.shapes.size=64"])
    assert (config.train.steps, config.data.shapes.size) == (3, 64)
    with pytest.raises(UserError, match=r"config\.optimizer\.learning_rate\?"):
        override(Config(), ["--config.learning_rate=3"])
    with pytest.raises(UserError, match=r"config\.train\.steps"):
        override(Config(), ["--config.train.stepss=3"])


def test_the_model_section_takes_lists_and_refuses_unknown_settings():
    section = model_section("jaxmaskrcnn/shapes", **{"rpn.anchors.ratios": [0.5, 1.0]})
    config = to_model_config(section, presets.model_config("jaxmaskrcnn/shapes").known_categories())
    assert config.rpn.anchors.ratios == (0.5, 1.0) and hash(config)
    with pytest.raises(ConfigError, match="box.fcs"):
        model_section("jaxmaskrcnn/shapes", **{"box.fc": 3})


def test_compilation_cache_honours_the_environment(monkeypatch, tmp_path):
    from jaxmaskrcnn.utils import compilation_cache

    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
        assert compilation_cache.enable() == tmp_path
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert compilation_cache.enable() == tmp_path / "jaxmaskrcnn" / "xla"
    finally:
        compilation_cache.enable(before)


# -- what is asked for and cannot be done


def test_a_finished_run_says_that_nothing_is_trained(finished, make_config, caplog):
    workdir, _ = finished
    with caplog.at_level("INFO", "jaxmaskrcnn"):
        train_and_evaluate(make_config(), workdir)
    assert f"The run in {workdir} has ended: 6 of 6 steps are done, and nothing is trained." in caplog.text


def test_other_weights_for_a_run_that_continues_are_not_ignored_in_silence(make_config, tmp_path, caplog):
    config = make_config()
    model = to_model_config(config.model, (Category(1, "cat"),))
    write_settings(tmp_path, model, config)
    check_resumable(tmp_path, model, config)
    assert "is not read" not in caplog.text
    config.model.weights = "R-50.pkl"
    for _ in range(2):  # the second time as well
        caplog.clear()
        check_resumable(tmp_path, model, config)
        write_settings(tmp_path, model, config, continued=True)
        assert f"model.weights=R-50.pkl is not read: the run in {tmp_path} was started" in caplog.text


def test_a_run_that_would_train_nothing_is_refused(make_config, tmp_path):
    with pytest.raises(UserError, match="optimizer.freeze leaves no parameter to train"):
        train_and_evaluate(make_config(optimizer__freeze=("*",)), tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff\xfe{", b'{"checksum": "0", "train.seed": 0}'])
def test_a_damaged_run_json_is_named(make_config, tmp_path, content):
    config = make_config()
    model = to_model_config(config.model, (Category(1, "cat"),))
    write_settings(tmp_path, model, config)
    check_resumable(tmp_path, model, config)
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json is damaged: .*; delete this file to continue without"):
        check_resumable(tmp_path, model, config)
    (tmp_path / "run.json").unlink()
    check_resumable(tmp_path, model, config)


def test_damaged_lines_of_the_record_are_dropped_and_counted(tmp_path, caplog):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"loss": 2.0})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'\xff\xfe\n{"step": "x"}\n[1]\n' + path.read_bytes() + b'{"step": 2, "lo')
    with MetricsWriter(tmp_path, step=2) as writer:
        writer.write(2, {"loss": 1.0})
    assert lines(tmp_path) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    assert "metrics.jsonl: 3 lines are damaged and are dropped" in caplog.text
