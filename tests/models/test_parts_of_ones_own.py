"""Backbones and necks of one's own whose maps are not those that their levels say are refused."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import random_model
from flax import nnx

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import BackboneConfig, ConfigError, Level, ModelConfig, NeckConfig
from jaxmaskrcnn.convert import to_state_dict
from jaxmaskrcnn.models import FPN, Pass
from jaxmaskrcnn.models.features import Backbone

part = dataclasses.dataclass(frozen=True, kw_only=True)
BASE = ModelConfig(num_classes=2).replace(
    {
        "input.test_min_size": 64,
        "input.test_max_size": 96,
        "neck.channels": 8,
        "box.fc_dim": 8,
        "mask.dim": 8,
        "mask.convs": 1,
        "rpn.post_nms_test": 4,
    }
)


pytestmark = pytest.mark.usefixtures("own_kinds")


class Maps(nnx.Module):
    """A backbone that returns a strided convolution of the images for each (stride, channels)."""

    def __init__(self, config, *, dtype="float32", remat=False, rngs):
        self.convs = nnx.List(
            [
                nnx.Conv(3, channels, (3, 3), strides=stride, padding=config.padding, rngs=rngs)
                for stride, channels in config.made
            ]
        )
        self.form = config.form

    def __call__(self, images, pass_=Pass()):  # noqa: B008
        maps = tuple(conv(images) for conv in self.convs)
        return {
            "tuple": maps,
            "dict": dict(enumerate(maps)),
            "array": maps[0],
            "flat": (maps[0][0],),
            "empty": tuple(x[:, :0, :0] for x in maps),
        }[self.form]

    def frozen(self):
        return ()


class StatedMaps(Maps):
    """The same with levels of its own, which its settings do not know."""

    levels = (Level(8, 4),)


class Neck(nnx.Module):
    """Returns the first maps."""

    def __init__(self, config, levels, *, dtype="float32", rngs):
        self.count, self.scale = config.count, config.scale

    def __call__(self, maps, pass_=Pass()):  # noqa: B008
        return tuple(x[:, :: self.scale, :: self.scale] for x in maps[: self.count])


def config_of(made, said=None, *, padding="SAME", form="tuple", module="Maps", neck=None):
    """A model's configuration with a backbone that makes maps and says to return others."""

    @part
    class MapsConfig(BackboneConfig):
        kind: ClassVar[str] = "maps"
        module: ClassVar[str] = "test_parts_of_ones_own:Maps"
        made: tuple[tuple[int, int], ...]
        said: tuple[tuple[int, int], ...]
        padding: str = "SAME"
        form: str = "tuple"

        @property
        def levels(self):
            return tuple(Level(*pair) for pair in self.said)

    MapsConfig.module = f"{__name__}:{module}"
    backbone = MapsConfig(made=made, said=said or made, padding=padding, form=form)
    anchors = tuple((32.0,) for _ in backbone.said)
    return BASE.replace({"neck": neck, "backbone": backbone, "rpn.anchors.sizes": anchors})


def detect(config, height=64, width=96):
    """Trace a detection; nothing is compiled."""
    model = nnx.eval_shape(lambda: jmr.MaskRCNN(config, rngs=nnx.Rngs(0)))
    batch = jmr.make_batch(model, [np.zeros((height, width, 3), np.uint8)])
    return jax.eval_shape(lambda model, batch: model.detect(batch), model, batch)


def sentence(call, *arguments, **keywords):
    with pytest.raises(ConfigError) as error:
        call(*arguments, **keywords)
    said = str(error.value)
    assert said.endswith(".") and "\n" not in said
    return said


@pytest.mark.parametrize(
    ("made", "said", "message"),
    [
        (
            ((16, 4),),
            ((8, 4),),
            "Maps returns a map of 4 x 6 cells for a canvas of 64 x 96 pixels, but its levels say stride 8, "
            "which is 8 x 12 cells; correct levels",
        ),
        (((4, 4),), ((8, 4),), "Maps returns a map of 16 x 24 cells"),
        (((8, 4), (16, 4)), ((8, 4), (32, 4)), "a map of 4 x 6 cells .* say stride 32, which is 2 x 3"),
        (
            ((8, 4),),
            ((8, 6),),
            "Maps returns a map with 4 channels for the level of stride 8, but its levels say 6",
        ),
        (
            ((8, 4),),
            ((8, 4), (16, 4)),
            "Maps returns 1 map, but its levels are 2, with the strides 8, 16; return a map for each",
        ),
        (((8, 4), (16, 4)), ((8, 4),), "Maps returns 2 maps, but its levels are 1, with the strides 8"),
    ],
)
def test_maps_that_are_not_those_of_the_levels(made, said, message):
    with pytest.raises(ConfigError, match=message):
        detect(config_of(made, said))


@pytest.mark.parametrize("form", ["dict", "array", "flat"])
def test_what_is_no_tuple_of_maps(form):
    said = sentence(detect, config_of(((8, 4),), form=form))
    assert said.startswith("Maps returns a ") and "return a tuple with an array [B, h, w, C]" in said


def test_a_stride_that_is_larger_than_the_canvas():
    said = sentence(detect, config_of(((128, 4),), form="empty"))
    assert (
        "Maps returns an empty map for the level of stride 128, as the canvas has only 64 x 96 pixels" in said
    )
    # A layer that rounds up has one cell.
    assert detect(config_of(((128, 4),))).boxes.shape == (1, 100, 4)


@pytest.mark.parametrize("strides", [(16, 8), (8, 8), (4, 16, 8)])
def test_levels_that_are_not_finest_first(strides):
    said = sentence(config_of, tuple((stride, 4) for stride in strides))
    assert (
        f"MapsConfig.levels has the strides {', '.join(map(str, strides))}; return the feature maps" in said
    )


def test_levels_of_the_module_and_of_its_settings():
    said = sentence(detect, config_of(((16, 4),), module="StatedMaps"))
    assert (
        "StatedMaps.levels is (Level(stride=8, channels=4),), but its configuration says (Level(stride"
        in said
    )
    assert detect(config_of(((8, 4),), module="StatedMaps")).boxes.shape == (1, 100, 4)


def test_maps_that_fit():
    detect(config_of(((4, 4), (8, 4), (32, 4))))
    # Of a canvas that is not a multiple of the stride some layers make a cell less.
    detect(config_of(((24, 4),), padding="VALID"))
    detect(config_of(((24, 4),)))


@pytest.mark.parametrize(
    ("count", "scale", "message"),
    [
        (1, 1, "Neck returns 1 map, but its levels are 2"),
        (2, 2, "Neck returns a map of 4 x 6 cells"),
        (2, 1, ""),
    ],
)
def test_maps_of_a_neck(count, scale, message):
    @part
    class OwnNeckConfig(NeckConfig):
        kind: ClassVar[str] = "own"
        module: ClassVar[str] = f"{__name__}:Neck"
        count: int = 1
        scale: int = 1

        def levels(self, backbone):
            return backbone

    config = config_of(((8, 4), (16, 4)), neck=OwnNeckConfig(count=count, scale=scale))
    if message:
        assert message in sentence(detect, config)
    else:
        detect(config)


def test_modules_that_are_assigned_by_hand():
    """They have levels of their own, and the configuration still says those of the model."""

    @functools.cache
    def images(side):
        return jnp.zeros((1, side, side, 3))

    def traced(change):
        def call():
            model = jmr.MaskRCNN(BASE.replace({"backbone.depth": 18, "backbone.width": 8}), rngs=nnx.Rngs(0))
            change(model)
            return model.features(images(64))

        return jax.eval_shape(call)

    other = config_of(((4, 4), (8, 4), (16, 4), (32, 4)))

    def body_alone(model):
        model.backbone.body = Maps(other.backbone, rngs=nnx.Rngs(0))

    assert (
        "The FPN is given maps with 4, 4, 4, 4 channels, but was made for maps with 8, 16, 32, 64"
        in sentence(traced, body_alone)
    )

    def body_and_neck(model):
        body_alone(model)
        model.backbone.fpn = FPN(BASE.neck, other.backbone.levels, rngs=nnx.Rngs(0))

    assert [x.shape[1] for x in traced(body_and_neck)] == [16, 8, 4, 2, 1]

    def whole(model):
        model.backbone = Backbone(config_of(((8, 8), (16, 8))), rngs=nnx.Rngs(0))

    assert "Backbone returns 2 maps, but its levels are 5" in sentence(traced, whole)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "nowhere.names",
            "MapsConfig.names is 'nowhere.names', and there is no module nowhere; give the module",
        ),
        ("a b", "MapsConfig.names is 'a b', which is no name of a module; give the module with its arrays'"),
        (None, "MapsConfig.names is None, which is no name of a module"),
        ("dataclasses", "MapsConfig.names is 'dataclasses', which has no function names; write it as"),
    ],
)
def test_names_that_are_no_names_file(names, message):
    config = config_of(((8, 4),))
    type(config.backbone).names = names
    model = random_model(config)
    with pytest.raises(jmr.UserError) as error:
        to_state_dict(model, "torchvision")
    assert message in str(error.value)
