"""Training can start from what fits of a checkpoint; it is reported part by part."""

import logging

import numpy as np
import pytest
from conversion_helpers import HEADS, arrays_of, small
from detectors import flat, random_model

from jaxmaskrcnn.checkpoints.directory import save_model
from jaxmaskrcnn.config import Config
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.convert.first_convolution import for_channels
from jaxmaskrcnn.convert.state_dict import variables_by_path
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.first_weights import first_model
from jaxmaskrcnn.training.weights_in_part import copy_what_fits

MORE_ANCHORS = {"rpn.anchors.ratios": (0.25, 0.5, 1.0, 2.0)}
RPN_LAST = {f"rpn.{layer}.{kind}" for layer in ("cls_logits", "bbox_pred") for kind in ("kernel", "bias")}
_MASK_LAYERS = ("convs.0.conv", "deconv", "logits")
MASK = {f"mask_head.{layer}.{kind}" for layer in _MASK_LAYERS for kind in ("kernel", "bias")}


def filled(config, value):
    model = random_model(config)
    for variable in variables_by_path(model).values():
        variable[...] = np.full(variable.shape, value, np.float32)
    return model


def start(config, weights, **options):
    """Initial weights of 7 show which arrays are not the checkpoint's."""
    return flat(first_model(config, str(weights), 7, init=filled, **options))


CASES = {
    "anchors": ("detectron2", {}, MORE_ANCHORS, RPN_LAST),
    "faster_rcnn": ("torchvision", {"mask": None}, {}, MASK),
    "classes": ("mmdet", {}, {"num_classes": 5}, HEADS),
    "anchors_and_classes": ("torchvision", {}, {**MORE_ANCHORS, "num_classes": 5}, RPN_LAST | HEADS),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", pytest.param("directory", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", sorted(CASES))
def test_what_fits_is_taken_and_the_rest_reported(tmp_path, caplog, case, kind):
    library, there, here, new = CASES[case]
    source, config = small(library, **there), small(library, **here)
    if kind == "file":
        np.savez(tmp_path / "a.npz", **arrays_of(library, **there))
        weights = tmp_path / "a.npz"
    else:
        save_model(random_model(source), tmp_path / "model")
        weights = tmp_path / "model"
    caplog.set_level(logging.INFO, logger="jaxmaskrcnn")
    started, expected = start(config, weights, in_part=True), flat(random_model(source))
    assert {name for name, value in started.items() if (value == 7).all()} == new
    for name in started.keys() - new:
        np.testing.assert_array_equal(started[name], expected[name], err_msg=name)
    told = caplog.text
    parts = {"rpn": 2 if new & RPN_LAST else 6, "mask_head": len(MASK - new)}
    for part, count in parts.items():
        assert f"{part} has {count} of its 6 arrays from the checkpoint" in told
    assert f"{len(new)} arrays start from random values" in told
    if new & RPN_LAST:
        assert "rpn.cls_logits.bias (3,), here (4,)" in told
    if case == "faster_rcnn":
        assert "not in it: mask_head.convs.0.conv" in told
    if case != "classes":  # which is allowed without being asked for
        with pytest.raises(UserError):
            start(config, weights)


def test_heads_with_another_place_of_the_background_are_not_taken(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays_of("torchvision"))
    config = small("torchvision").replace({"background": "last"})
    started = start(config, tmp_path / "a.npz", in_part=True)
    assert {name for name, value in started.items() if (value == 7).all()} == HEADS


def test_nothing_that_fits():
    model = filled(small("torchvision"), 7.0)
    with pytest.raises(UserError, match="other.pth has no array that fits this model, not even in part"):
        copy_what_fits({"stem.kernel": np.zeros((3, 3))}, model, "other.pth")
    assert all((value == 7).all() for value in flat(model).values())


@pytest.mark.parametrize("channels", [1, 4])
def test_a_first_convolution_for_other_images(channels, caplog):
    """A convolution of three channels, made from and for another number; the rule is timm's."""
    caplog.set_level(logging.INFO, logger="jaxmaskrcnn")
    rng = np.random.default_rng(0)
    rgb = rng.normal(size=(7, 7, 3, 8)).astype(np.float32)
    made = for_channels(rgb, channels)
    grey = rng.normal(size=(7, 7))
    # For a picture with the same values in each channel, one channel has to give what three gave.
    same = rgb.sum(axis=2) if channels == 1 else (2 * rgb[..., 0, :] + rgb[..., 1, :] + rgb[..., 2, :]) * 0.75
    result, wanted = (np.einsum("hw,hwo->o", grey, kernel) for kernel in (made.sum(axis=2), same))
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)
    model = filled(small("torchvision"), 7.0)
    stored = {path: v[...] for path, v in variables_by_path(random_model(small("torchvision"))).items()}
    stored["backbone.body.conv1.kernel"] = made
    left = copy_what_fits(stored, model, "grey.pth")
    assert left == ()
    back = flat(model)["backbone.body.conv1.kernel"]
    expected = np.repeat(made, 3, axis=2) / 3 if channels == 1 else made[:, :, :3] * (4 / 3)
    np.testing.assert_allclose(back, expected, rtol=1e-6)
    assert f"conv1.kernel was made for {channels} input channels and is made for 3" in caplog.text


def test_the_option_is_a_setting_of_a_run():
    assert not Config().model.weights_in_part
    assert override(Config(), ["--config.model.weights_in_part=True"]).model.weights_in_part
