"""The example of docs/own-models.md: parts, ground truth and a model of one's own, in every command."""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from flax import nnx
from pages import ROOT
from xla_flags import QUICK

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import Config
from jaxmaskrcnn.config.recipe_files import find_config, import_file
from jaxmaskrcnn.data.augment.own import OwnTransform
from jaxmaskrcnn.data.fields.boxes import Boxes
from jaxmaskrcnn.data.fields.extra import Extra
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.masks import Masks
from jaxmaskrcnn.data.fields.pieces import tighten
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.training.groups import layer_factors, parameter_names
from jaxmaskrcnn.training.run_config import check_resumable, write_settings

EXAMPLE = ROOT / "examples" / "depth"
RECIPE = EXAMPLE / "depth_recipe.py"
SMALL = (
    "--config.data.batch_size=4 --config.data.eval_batch_size=4 --config.data.min_sizes=64 "
    "--config.data.max_size=64 --config.model.input.test_min_size=64 --config.model.input.test_max_size=64 "
    "--config.model.backbone.widths=8,8,16,16 --config.model.box.fc_dim=16 --config.model.neck.channels=8 "
    "--config.model.neck.norm=none --config.model.mask.dim=8 --config.model.regions.batch_size=16 "
    "--config.model.rpn.post_nms_train=40 --config.model.rpn.post_nms_test=40 --config.train.steps=6 "
    "--config.train.checkpoint_every=2 --config.train.log_every=1 --config.train.eval_loss=True"
).split()


@pytest.fixture
def loaded(own_kinds):
    """The example's modules; they are gone after the test."""
    path = list(sys.path)
    yield import_file(RECIPE)
    sys.path[:] = path
    for name in ("depth_recipe", "depth_parts", "depth_data", "depth_transform"):
        sys.modules.pop(name, None)


def test_the_model_of_the_recipe(loaded):
    config = find_config(f"{RECIPE}:data").load()
    assert config.data.train_annotations == "data/train.json"
    architecture = config.model.architecture
    assert architecture.box.class_loss.form == "focal"
    assert architecture.build_model == "depth_recipe:build_model" and architecture.heads[0].kind == "depth"
    model = abstract_model(architecture)
    names = [type(part).__name__ for part in (model.backbone.body, model.box_head, model.extra_heads[0])]
    assert names == ["SmallConvNeXt", "SeparateBoxHead", "DepthHead"]
    params = nnx.state(model, jmr.trainable(model))
    factors = jax.tree.leaves(layer_factors(params, architecture.backbone, 0.5))
    rates = dict(zip(parameter_names(params), factors, strict=True))
    assert rates["backbone.body.patches.0.kernel"] == 0.5**4 and rates["extra_heads.0.out.kernel"] == 1
    assert rates["backbone.body.blocks.3.norm.scale"] == 0.5


def test_the_loss_is_that_of_the_objects(loaded):
    """|log of the estimate - log of the depth| of the object that a region is matched to."""
    parts = importlib.import_module("depth_parts")
    head = parts.DepthHead(parts.DepthConfig(), 1, None, rngs=nnx.Rngs(0))
    head.of_boxes = lambda pooler, boxes: boxes[..., 0]
    rng = np.random.default_rng(0)
    boxes, depths = (
        rng.normal(size=(2, 5, 4)).astype(np.float32),
        rng.uniform(1, 9, (2, 3)).astype(np.float32),
    )
    matched, positive = rng.integers(0, 3, (2, 5)), rng.random((2, 5)) < 0.6
    targets = jmr.structures.Targets(None, None, None, None, None, extra={"depth": jax.numpy.asarray(depths)})
    pooler = type("Pooler", (), {"batch": type("Batch", (), {"targets": targets})})
    regions = jmr.losses.Regions(boxes, None, matched, positive, np.ones((2, 5), bool))
    total, count = head.loss_terms(pooler, regions, None)["loss_depth"]
    wanted = [
        sum(abs(boxes[b, r, 0] - np.log(depths[b, matched[b, r]])) for r in range(5) if positive[b, r])
        for b in range(2)
    ]
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    np.testing.assert_array_equal(count, positive.sum(1))


def test_an_object_is_painted_over(loaded):
    """The others keep their depths and their masks, and all other pixels stay."""
    rng = np.random.default_rng(0)
    image, masks = rng.integers(0, 255, (8, 12, 3), np.uint8), np.zeros((3, 8, 12), bool)
    for i in range(3):
        masks[i, i : i + 4, 4 * i : 4 * i + 3] = True
    boxes = np.array([[4 * i, i, 4 * i + 3, i + 4] for i in range(3)], np.float32)
    fields = {"boxes": Boxes(boxes), "masks": Masks(tuple(tighten(0, 0, mask) for mask in masks))}
    depths = Extra({"depth": np.array([1.0, 2, 3], np.float32)}, {})
    objects = ImageObjects(np.array([2, 0, 1]), np.zeros(3, bool), None, fields, extra=depths)
    name = find_config(f"{RECIPE}:data").load().data.transform
    hidden = set()
    for seed in range(12):
        changed, left = OwnTransform(name, seed)(image, objects)
        kept = [int(depth) - 1 for depth in left.extra.objects["depth"]]
        gone = sorted({0, 1, 2} - set(kept))
        hidden |= set(gone)
        assert len(gone) <= 1 and left.labels.tolist() == [[2, 0, 1][i] for i in kept]
        np.testing.assert_array_equal(left.boxes, boxes[kept])
        painted = masks[gone].any(0)
        np.testing.assert_array_equal(changed[~painted], image[~painted])
        assert not gone or (changed[painted] == image.mean((0, 1)).astype(np.uint8)).all()
    assert hidden == {0, 1, 2}


@pytest.mark.parametrize("kind", ["swin", "convnext", "regnet"])
def test_a_run_with_another_kind_of_backbone_goes_on(kind, tmp_path):
    model = jmr.ModelConfig().replace({"backbone": kind})
    write_settings(tmp_path, model, Config())
    check_resumable(tmp_path, model, Config())
    with pytest.raises(
        UserError, match=r"other settings: model.neck.channels \(was 256, is 64\); use the same"
    ):
        check_resumable(tmp_path, model.replace({"neck.channels": 64}), Config())
    with pytest.raises(UserError, match=f"model.backbone.kind .was '{kind}', is 'resnet'."):
        check_resumable(tmp_path, jmr.ModelConfig(), Config())


def test_a_run_goes_on_with_settings_that_are_new_since(tmp_path, loaded):
    """A setting that was not stored had the effect of its default, in parts of one's own too."""
    model = find_config(f"{RECIPE}:data").load().model.architecture
    write_settings(tmp_path, model, Config())
    path = tmp_path / "run.json"
    stored = {k: v for k, v in json.loads(path.read_text()).items() if k != "checksum"}
    for name in ("model.heads.0.pool.aligned", "model.extra.0.of", "model.box.scores", "optimizer.noise"):
        assert name in stored
        path.write_text(json.dumps({k: v for k, v in stored.items() if k != name}))
        check_resumable(tmp_path, model, Config())
    path.write_text(json.dumps({k: v for k, v in stored.items() if k != "model.heads.0.dim"}))
    other = model.replace({"heads.0.dim": 32})
    with pytest.raises(UserError, match=r"model.heads.0.dim \(was 64, is 32\)"):
        check_resumable(tmp_path, other, Config())


def run(folder, *words, devices=1, wait=True):
    flags = f"{QUICK} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    process = subprocess.Popen(
        [sys.executable, *words], cwd=folder, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if not wait:
        return process
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def train(folder, workdir, **options):
    words = ["-m", "jaxmaskrcnn", "train", f"--config={RECIPE}:data", f"--workdir={workdir}", *SMALL]
    return run(folder, *words, **options)


def arrays(workdir):
    state = nnx.to_flat_state(nnx.state(jmr.load_model(workdir / "model")))
    return {path: np.asarray(value[...]) for path, value in state}


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: {k: v for k, v in line.items() if "loss" in k} for line in lines if "loss" in line}


@pytest.mark.slow  # six processes that compile a train step
def test_trained_killed_resumed_evaluated_and_on_four_devices(loaded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = importlib.import_module("depth_data")
    data.write("data", 24, 8, 64)
    train(tmp_path, "whole")
    whole = losses(tmp_path / "whole")
    assert len(whole) == 6 and all(step["loss_depth"] > 0 for step in whole.values())

    # Killed after the first checkpoint, and started again.
    process = train(tmp_path, "killed", wait=False)
    while not (tmp_path / "killed" / "checkpoints" / "2").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "model").exists()
    assert "Resum" in train(tmp_path, "killed") or losses(tmp_path / "killed")
    first, second = arrays(tmp_path / "whole"), arrays(tmp_path / "killed")
    assert first.keys() == second.keys() and any("extra_heads" in path for path in first)
    for path, value in first.items():
        np.testing.assert_array_equal(second[path], value, err_msg=str(path))

    # On four devices the sums are added in another order.
    train(tmp_path, "four", devices=4)
    for step, values in losses(tmp_path / "four").items():
        for name, value in values.items():
            assert value == pytest.approx(whole[step][name], rel=2e-3), (step, name)

    # Evaluated by a process that has not trained it, which has to import the recipe.
    words = ["-m", "jaxmaskrcnn", "evaluate", "--checkpoint=killed", "--annotations=data/eval.json",
             "--images=data/eval", "--output=results", "--batch_size=4"]  # fmt: skip
    refused = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True,
                             env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert refused.returncode == 2 and "--import=depth_parts" in refused.stderr
    run(tmp_path, *words, f"--import={RECIPE}")
    found = json.loads((tmp_path / "results" / "detections.json").read_text())
    assert found and all(entry["extra"]["depth"] > 0 for entry in found)
    monkeypatch.setattr(sys, "argv", ["depth_data.py", "data/eval.json", "results/detections.json"])
    runpy.run_path(str(EXAMPLE / "depth_data.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("mean error of the depths: ")
