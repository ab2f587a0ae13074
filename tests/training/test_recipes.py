"""The files of configs/: their settings, and that what they claim is what their sources say."""

import importlib.util
import math
import re

import pytest
from folders import ROOT

from jaxmaskrcnn.config import paths
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training.dry_run import interesting_steps
from jaxmaskrcnn.training.optimizer import learning_rate
from jaxmaskrcnn.training.run_config import to_model_config
from jaxmaskrcnn.zoo import PRESETS
from jaxmaskrcnn.zoo.lookup import list_backbones, model_config

CONFIGS = sorted((ROOT / "configs").glob("*.py"))
DETECTRON2_SIZES = (640, 672, 704, 736, 768, 800)

# Learning rate by completed step for a batch of 16, steps, short sides, seconds a step (the libraries'
# config files and tables).
COCO = {
    "maskrcnn_r50_fpn_1x": (
        "detectron2/mask_rcnn_R_50_FPN_1x", (60000, 80000, 90000), DETECTRON2_SIZES, "0.261",
        "detectron2/MSRA/R-50"),
    "maskrcnn_r50_fpn_3x": (
        "detectron2/mask_rcnn_R_50_FPN_3x", (210000, 250000, 270000), DETECTRON2_SIZES, "0.261",
        "detectron2/MSRA/R-50"),
    "maskrcnn_r101_fpn_3x": (
        "detectron2/mask_rcnn_R_101_FPN_3x", (210000, 250000, 270000), DETECTRON2_SIZES, "0.340",
        "detectron2/MSRA/R-101"),
    "maskrcnn_r50_fpn_torchvision": (
        "torchvision/maskrcnn_resnet50_fpn", tuple(math.ceil(117266 / 16) * e for e in (16, 22, 26)), (800,),
        "0.2728", "torchvision/resnet50"),
    # Detectron2's file is for a batch of 64: four times its steps, a quarter of its rate.
    "maskrcnn_r50_gn_scratch": (
        "detectron2/scratch_mask_rcnn_R_50_FPN_9x_gn", tuple(4 * s for s in (187500, 197500, 202500)),
        DETECTRON2_SIZES, "0.338", None),
}  # fmt: skip


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_says_how_it_is_started_and_can_be(path, caplog):
    module = load(path)
    config = module.get_config()
    config.check()
    schedule = learning_rate(config.optimizer, config.data.batch_size, config.train.steps)
    assert not caplog.records  # no warning: the schedule fits the run
    assert float(schedule(config.train.steps - 1)) < float(schedule(config.optimizer.warmup_steps))
    command = re.search(r"^    (python train\.py.*?)\n\n", module.__doc__, re.M | re.S)[1]
    words = command.replace("\\\n", " ").split()
    assert words[2:3] in ([], [f"--config=configs/{path.name}"])
    settings = [word for word in words[2:] if word.startswith("--config.")]
    override(config, settings)
    for setting in settings:
        path, _, value = setting.removeprefix("--config.").partition("=")
        assert str(paths.get_path(config, path)) == value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_says_what_to_expect(path):
    text = " ".join(load(path).__doc__.split())
    box = "" if "cityscapes" in path.stem else r"box AP \d\d\.\d(,| and) "  # there are masks alone
    assert re.search(rf"{box}mask AP \d\d\.\d", text)
    hours = re.search(r"\d\.\d+ hours", text).start()
    assert {"V100", "A100", "EPYC"} & set(re.findall(r"\w+", text[: hours + 50]))
    # Either measured, and then docs/benchmarks.md has it, or said not to be.
    assert ("docs/benchmarks.md" in text) != ("Not run here." in text and "not been timed there" in text)


@pytest.mark.parametrize("name", COCO)
def test_coco_recipes_are_those_of_their_sources(name):
    preset, (first, second, steps), sizes, seconds, weights = COCO[name]
    module = load(next(path for path in CONFIGS if path.stem == name))
    config, text = module.get_config(), " ".join(module.__doc__.split())
    assert config.data.batch_size == 16 and config.data.min_sizes == sizes and config.data.max_size == 1333
    assert config.train.steps == steps and not config.data.keep_empty and config.data.flip == 0.5
    assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 1e-4)
    schedule = learning_rate(config.optimizer, 16, steps)
    rates = {
        0: 2e-5,
        500: 0.01001,
        1000: 0.02,
        first - 1: 0.02,
        first: 0.002,
        second - 1: 0.002,
        second: 0.0002,
    }
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-4), step
    assert set(interesting_steps(config.optimizer, steps)) >= {0, 1000, first, second, steps - 1}

    categories = tuple(Category(i, f"class {i}") for i in range(80))
    built = to_model_config(config.model, categories)
    original = model_config(preset)
    differ = {path for path, value, _ in paths.settings(built) if original.get(path) != value}
    # Zero is the epsilon of torchvision's COCO weights, not of the ImageNet weights the run starts from.
    assert differ - {"categories", "num_classes"} == (
        {"backbone.norm_epsilon"} if preset.startswith("torch") else set()
    )

    entry = PRESETS[preset]
    assert f"box AP {entry.box_ap}, mask AP {entry.mask_ap}." in text and "Not run here." in text
    hours = f"{float(seconds) * steps / 3600:.1f}"
    assert re.search(rf"{re.escape(seconds)} s a step on eight V100.* are {re.escape(hours)} hours", text)
    if weights is None:
        assert "--config.model.weights" not in text
    else:
        assert f"--config.model.weights={weights} " in text and weights in list_backbones()


def test_the_long_jittered_recipe_is_detectron2s():
    """``configs/new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py`` of Detectron2."""
    module = load(next(path for path in CONFIGS if path.stem == "maskrcnn_r50_fpn_lsj"))
    config, text = module.get_config(), " ".join(module.__doc__.split())
    assert (config.data.batch_size, config.data.jitter_size, config.data.jitter_scale) == (
        64,
        1024,
        (0.1, 2.0),
    )
    assert config.data.flip == 0.5 and not config.data.keep_empty and config.train.steps == 184375
    assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 4e-5)
    schedule = learning_rate(config.optimizer, 64, 184375)
    for step, rate in ((0, 0.0067), (250, 0.05335), (500, 0.1), (163888, 0.1), (163889, 0.01), (177545, 0.01),
                       (177546, 0.001)):  # fmt: skip
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-4), step
    preset = "detectron2/mask_rcnn_R_50_FPN_100ep_LSJ"
    built = to_model_config(config.model, model_config(preset).categories)
    assert built == model_config(preset)
    assert (built.backbone.norm, built.neck.norm, built.box.norm, built.mask.norm) == ("bn",) * 4
    assert built.rpn.norm == "none" and built.backbone.freeze_at == 0
    assert (built.rpn.convs, built.box.convs, built.box.fcs, built.mask.convs) == (2, 4, 1, 4)
    assert built.compute.weight_decay_exempts_norm and built.backbone.stride_in_1x1
    assert f"box AP {PRESETS[preset].box_ap}, mask AP {PRESETS[preset].mask_ap}." in text
    assert f"are {0.345 * 184375 * 64 / 16 / 3600:.1f} hours for as many images" in text
    assert "No weights are needed" in text and "model.weights" not in text


def test_the_recipe_of_a_plain_transformer_is_detectron2s():
    """``projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py``."""
    module = load(next(path for path in CONFIGS if path.stem == "maskrcnn_vitdet_b"))
    config, text = module.get_config(), " ".join(module.__doc__.split())
    data, optimizer = config.data, config.optimizer
    assert (data.batch_size, data.jitter_size, data.jitter_scale) == (64, 1024, (0.1, 2.0))
    assert (optimizer.method, optimizer.momentum, optimizer.beta2) == ("adamw", 0.9, 0.999)
    assert (optimizer.weight_decay, optimizer.layer_decay) == (0.1, 0.7)
    schedule = learning_rate(optimizer, 64, 184375)
    for step, rate in ((0, 1e-7), (250, 1e-4), (163888, 1e-4), (163889, 1e-5), (177546, 1e-6)):
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-4), step
    preset = "detectron2/ViTDet/mask_rcnn_vitdet_b_100ep"
    built = to_model_config(config.model, model_config(preset).categories)
    assert built == model_config(preset) and built.compute.weight_decay_exempts_norm
    assert f"box AP {PRESETS[preset].box_ap}, mask AP {PRESETS[preset].mask_ap}." in text
    assert f"are {0.314 * 184375 / 3600:.1f} hours" in text
    assert "--config.model.weights=detectron2/MAE/mae_pretrain_vit_base " in text


def test_the_lvis_recipe_is_detectron2s():
    """``configs/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml``."""
    config = load(next(path for path in CONFIGS if path.stem == "maskrcnn_r50_fpn_lvis")).get_config()
    assert (config.data.repeat_threshold, config.data.repeat_rule) == (0.001, "stochastic")
    assert config.data.min_sizes == DETECTRON2_SIZES and config.data.max_size == 1333
    assert (config.train.steps, config.optimizer.decay_steps) == (180000, (120000, 160000))
    name = "detectron2/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
    assert to_model_config(config.model, model_config(name).categories) == model_config(name)


def test_the_cityscapes_recipe_is_detectron2s():
    """``configs/Cityscapes/mask_rcnn_R_50_FPN.yaml``."""
    config = load(next(path for path in CONFIGS if path.stem == "maskrcnn_r50_fpn_cityscapes")).get_config()
    assert config.data.min_sizes == tuple(range(800, 1025, 32)) and config.data.max_size == 2048
    assert (config.data.batch_size, config.data.eval_protocol) == (8, "cityscapes")
    schedule = learning_rate(config.optimizer, 8, config.train.steps)
    for step, rate in ((0, 1e-5), (1000, 0.01), (17999, 0.01), (18000, 0.001), (23999, 0.001)):
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-4), step
    name = "detectron2/Cityscapes/mask_rcnn_R_50_FPN"
    assert to_model_config(config.model, model_config(name).categories) == model_config(name)
