"""Parts of one's own: their kinds, what their classes need, and the files of models that have them."""

import dataclasses
import enum
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import pytest

import jaxmaskrcnn.config
from jaxmaskrcnn.config import (
    BackboneConfig,
    ComputeConfig,
    ConfigError,
    DetectionConfig,
    FPNConfig,
    Level,
    MaskConfig,
    MaskHeadConfig,
    ModelConfig,
    NeckConfig,
    Part,
    PoolConfig,
    RegNetConfig,
    ResNetConfig,
    TrunkConfig,
    parts,
    paths,
)
from jaxmaskrcnn.config.json import config_from_json, config_to_json
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.config.run import Config
from jaxmaskrcnn.config.values import Count, Fraction, Range, Rule
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.parts import build

part = dataclasses.dataclass(frozen=True, kw_only=True)


pytestmark = pytest.mark.usefixtures("own_kinds")


def plain_backbone():
    """A complete class with the least that it needs."""

    @part
    class PlainConfig(BackboneConfig):
        kind: ClassVar[str] = "plain"
        module: ClassVar[str] = "mine:Plain"
        width: int = 16

        @property
        def levels(self):
            return tuple(Level(4 * 2**i, self.width) for i in range(4))

    return PlainConfig


def sentence(call, *arguments, **keywords):
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    said = str(error.value)
    assert said.endswith(".") and "\n" not in said
    return said


def test_every_part_is_importable_from_the_package():
    for module in pkgutil.iter_modules(jaxmaskrcnn.config.__path__, "jaxmaskrcnn.config."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(value) and name.endswith("Config") and not name.startswith("_"):
                assert getattr(jaxmaskrcnn.config, name) is value and name in jaxmaskrcnn.config.__all__


def test_a_kind_of_ones_own_is_chosen_like_any_other():
    plain = plain_backbone()
    config = ModelConfig().replace({"backbone": "plain", "backbone.width": 8})
    assert config.backbone == plain(width=8) and config.get("backbone.kind") == "plain"
    assert paths.part_classes(BackboneConfig)["plain"] is plain
    typed = override(Config(), ["--config.model.backbone=plain", "--config.model.backbone.width=24"])
    assert typed.model.architecture.backbone == plain(width=24)
    assert config_from_json(config_to_json(config)) == config


def test_two_classes_of_one_kind():
    with pytest.raises(ConfigError) as error:

        @part
        class WiderResNetConfig(ResNetConfig):
            extra: int = 1

    said = str(error.value)
    assert (
        f"{__name__}." in said and "WiderResNetConfig and jaxmaskrcnn.config.backbones.ResNetConfig" in said
    )
    assert "both have the kind 'resnet'; give WiderResNetConfig a kind of its own" in said
    assert "kind: ClassVar[str] = 'wider_res_net'" in said
    # The class that was refused takes nobody's place.
    assert paths.part_classes(BackboneConfig)["resnet"] is ResNetConfig
    assert type(ModelConfig().replace({"backbone": "resnet"}).backbone) is ResNetConfig

    plain_backbone()
    for family, kind in ((BackboneConfig, "plain"), (NeckConfig, "fpn"), (TrunkConfig, "res5")):
        with pytest.raises(ConfigError, match=f"both have the kind '{kind}'"):
            type("OtherConfig", (family,), {"kind": kind})
    with pytest.raises(ConfigError, match="both have the kind 'fcn'"):

        class BiggerMaskConfig(MaskConfig):
            pass

    # Two families may have the same name for a kind.
    type("OtherConfig", (NeckConfig,), {"kind": "plain"})


def test_a_class_that_is_defined_again_takes_the_place_of_its_old_version():
    """As by a notebook's cell."""
    old, new = plain_backbone(), plain_backbone()
    assert old is not new and paths.part_classes(BackboneConfig)["plain"] is new
    assert ModelConfig().replace({"backbone": "plain"}).backbone == new()


@pytest.mark.parametrize("kind", ["", "none", "true", "a b", "a.b", 3])
def test_names_that_a_kind_cannot_have(kind):
    said = sentence(type, "OddConfig", (BackboneConfig,), {"kind": kind})
    assert f"OddConfig has the kind {kind!r}; give it a name of letters" in said


def without(name):
    """The class of `plain_backbone` without one of its attributes."""
    attributes = {
        "kind": "plain",
        "module": "mine:Plain",
        "levels": property(lambda self: (Level(4, 8),)),
        "__module__": __name__,
    }
    return part(type("PlainConfig", (BackboneConfig,), {k: v for k, v in attributes.items() if k != name}))


def test_classes_that_lack_something():
    for name, said in (
        ("kind", "PlainConfig has no kind; give it its name in files: kind: ClassVar[str] = 'plain'."),
        ("module", "PlainConfig has no module; give it the class that it builds: module: ClassVar[str] = "),
        ("levels", "PlainConfig has no `levels`; define it as BackboneConfig describes it."),
    ):
        part_class = without(name)
        assert said in sentence(part_class)
        parts._FAMILIES[BackboneConfig].pop("plain", None)
    assert "BackboneConfig has no kind" in sentence(BackboneConfig)

    @part
    class Neck(NeckConfig):
        kind: ClassVar[str] = "flat"
        module: ClassVar[str] = "mine:Neck"

    assert "Neck has no `levels`; define it as NeckConfig describes it." in sentence(Neck)

    @part
    class Trunk(TrunkConfig):
        kind: ClassVar[str] = "block"
        module: ClassVar[str] = "mine:Trunk"

        def channels(self, backbone):
            return 8

    assert "Trunk has no `side`" in sentence(Trunk)


def test_classes_that_are_written_in_another_way_than_parts_are():
    class Undecorated(plain_backbone()):
        kind: ClassVar[str] = "undecorated"
        more: int = 3

    assert (
        "Undecorated is not a dataclass; write @dataclasses.dataclass(frozen=True, kw_only=True)"
        in sentence(Undecorated)
    )

    @part
    class Field(BackboneConfig):
        kind: ClassVar[str] = "field"
        module: str = "mine:Plain"
        levels: ClassVar = (Level(4, 8),)

    assert (
        "Field has the module 'mine:Plain'; give it the class that it builds: module: ClassVar"
        in sentence(Field)
    )

    @part
    class Place(Field):
        kind: ClassVar[str] = "place"
        module: ClassVar[str] = "mine.Plain"

    assert "Place has the module 'mine.Plain'; give it the class" in sentence(Place)

    @part
    class Texts(plain_backbone()):
        kind: ClassVar[str] = "texts"
        width: "int" = 3

    assert "The types of " in (said := sentence(Texts)) and "fields are texts (width)" in said

    @part
    class NoDefault(plain_backbone()):
        kind: ClassVar[str] = "no_default"
        depth: int

    assert NoDefault(depth=3).depth == 3
    for choose in ({"backbone": "no_default"}, {"backbone.kind": "no_default", "backbone.depth": 3}):
        assert "NoDefault has no default for depth; give every setting one" in sentence(
            ModelConfig().replace, choose
        )


@pytest.mark.parametrize("levels", [(), ((4, 8),), [Level(4, 8)], (Level(4, 0),), (Level(4, 8.0),), None])
def test_levels_that_are_none(levels):
    @part
    class Odd(BackboneConfig):
        kind: ClassVar[str] = "odd"
        module: ClassVar[str] = "mine:Plain"
        levels: ClassVar = ()

    Odd.levels = levels
    assert (
        "Odd.levels is " in (said := sentence(ModelConfig, backbone=Odd()))
        and "a Level(stride, channels)" in said
    )


def test_modules_that_cannot_be_built(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "own_empty.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = plain_backbone()
    for module, said in (
        (
            "nowhere.at_all:Plain",
            "PlainConfig.module is 'nowhere.at_all:Plain', and there is no module nowhere;",
        ),
        ("own_empty.more:Plain", "there is no module own_empty.more; give the place of the class as"),
        (
            "own_empty:Plain",
            "PlainConfig.module is 'own_empty:Plain', and own_empty has no Plain; give the place",
        ),
    ):
        plain.module = module
        assert said in sentence(build, plain())
    plain.module = "own_parts:Plain"
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        build(plain())


# -- in other processes


def test_files_name_the_module_of_a_part_and_what_to_do_where_it_is_not_known():
    plain = plain_backbone()
    text = config_to_json(ModelConfig(backbone=plain(width=8)))
    stored = json.loads(text)["config"]
    assert stored["backbone"] == {"kind": "plain", "import": __name__, "width": 8}
    assert "import" not in stored["neck"] and "import" not in stored["mask"]
    parts._FAMILIES[BackboneConfig].pop("plain")  # as in a process that did not import the class
    said = sentence(config_from_json, text, "model.json")
    assert said == (
        f"model.json: backbone is a 'plain', whose class is in the module {__name__}; import that first (for "
        f"a command: --import={__name__})."
    )
    for module, said in (
        ("__main__", "whose class was in the script that saved the model; put the class into a module"),
        (3, "backbone is a 'plain', unknown to this release; update jaxmaskrcnn."),
    ):
        other = text.replace(json.dumps(__name__), json.dumps(module))
        assert said in sentence(config_from_json, other)


def test_files_of_a_neck_and_a_mask_head_of_ones_own():
    @part
    class OwnFPNConfig(FPNConfig):
        kind: ClassVar[str] = "own_fpn"
        module: ClassVar[str] = "mine:OwnFPN"

    @part
    class OwnMaskConfig(MaskConfig):
        kind: ClassVar[str] = "own_mask"
        module: ClassVar[str] = "mine:OwnMask"
        depth: int = 2

    config = ModelConfig(neck=OwnFPNConfig(channels=64), mask=OwnMaskConfig(depth=3))
    text = config_to_json(config)
    assert config_from_json(text) == config
    parts._FAMILIES[MaskHeadConfig].pop("own_mask")
    assert "mask is a 'own_mask', whose class is in the module" in sentence(config_from_json, text)
    assert Part in OwnMaskConfig.__mro__ and sys.modules[__name__]


# -- types of settings


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class NoPart:
    width: int = 3


@pytest.mark.parametrize(
    ("expected", "default", "said"),
    [
        (dict, {}, "dict"),
        (dict[str, int], {"a": 1}, "dict[str, int]"),
        (tuple, (1, 2), "tuple"),
        (tuple[()], (), "tuple[()]"),
        (tuple[dict, ...], ({},), "tuple[dict, ...]"),
        (Point, Point(1, 2), "Point"),
        (tuple[Point, ...], (Point(1, 2),), ".Point, ...]"),
        (frozenset, frozenset({1}), "frozenset"),
        (frozenset[str], frozenset(), "frozenset[str]"),
        (list, [1], "list"),
        (list[int], [1], "list[int]"),
        (bytes, b"a", "bytes"),
        (complex, 1j, "complex"),
        (Colour, Colour.RED, "Colour"),
        (Any, 3, "Any"),
        (Callable, len, "Callable"),
        (Literal[b"a", "b"], "b", "Literal[b'a', 'b']"),
        (int | dict, 3, "int | dict"),
        (Annotated[int, "pixels"], 3, "Annotated[int, 'pixels']"),
        (Annotated[Count, Rule(bool, "a number")], 3, "Annotated[int, Range("),
        (Annotated[str, Range(1)], "a", "Annotated[str, Range("),
        (NoPart, NoPart(), "NoPart"),
        (Part, PoolConfig(), "Part"),
        (PoolConfig | DetectionConfig, PoolConfig(), "PoolConfig | "),
    ],
)
def test_types_that_model_json_cannot_hold(expected, default, said):
    @part
    class Odd(plain_backbone()):
        kind: ClassVar[str] = "odd"
        extra: expected = dataclasses.field(default_factory=lambda: default)

    message = sentence(Odd)
    assert message.startswith(f"{Odd.__module__}.{Odd.__qualname__}.extra has the type ")
    assert said in message and ", which model.json cannot hold; give it bool, int, float, str, " in message
    assert "typing." not in message


@pytest.mark.parametrize(
    ("expected", "default", "other"),
    [
        (bool, True, False),
        (int | None, None, 3),
        (float, 0.5, 1.0),
        (str | tuple[str, ...], "a", ("a", "b")),
        (Literal["a", 1, None], None, 1),
        (Fraction, 0.5, 1.0),
        (tuple[int, float, str], (1, 0.5, "a"), (2, 1.0, "")),
        (tuple[tuple[float, ...], ...], (), ((1.0, 2.0), ())),
        (PoolConfig | None, None, PoolConfig(size=3)),
        (MaskConfig | None, MaskConfig(), None),
        (tuple[PoolConfig, ...], (), (PoolConfig(size=3), PoolConfig(aligned=True))),
        (
            tuple[PoolConfig, ComputeConfig],
            (PoolConfig(), ComputeConfig()),
            (PoolConfig(size=3), ComputeConfig(remat=True)),
        ),
        (tuple[BackboneConfig, ...], (ResNetConfig(),), (RegNetConfig(), ResNetConfig(depth=18))),
    ],
)
def test_types_that_model_json_holds(expected, default, other):
    @part
    class Fine(plain_backbone()):
        kind: ClassVar[str] = "fine"
        extra: expected = default

    for value in (default, other):
        config = ModelConfig(backbone=Fine(extra=value))
        again = config_from_json(config_to_json(config))
        assert again == config and type(again.backbone.extra) is type(value)


def test_a_part_that_is_not_frozen():
    @dataclasses.dataclass(kw_only=True)
    class LooseConfig(Part):
        width: int = 3

    assert "LooseConfig can be changed after it is made" in (said := sentence(LooseConfig))
    assert "write @dataclasses.dataclass(frozen=True, kw_only=True) above it" in said
    # Below a family Python itself refuses it.
    with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):
        dataclasses.dataclass(kw_only=True)(type("Loose", (BackboneConfig,), {"kind": "loose"}))
