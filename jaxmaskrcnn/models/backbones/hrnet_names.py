"""Names of an HRNet's arrays in MMDetection, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import HRNetConfig, ModelConfig
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import Conversion, number, whole
from jaxmaskrcnn.names.layers import NORM, Shapes, count_layers
from jaxmaskrcnn.names.tables import CONV, Names, Row

LIBRARIES = ("mmdet",)

# The name that occurs once in each file of only this backbone.
STEMS = {"mmdet": "transition1.1.0.0.weight"}
MMDET = "HRNet"
# The layers of classifiers behind the four branches.
CLASSIFIERS = (r"(incre_modules|downsamp_modules|final_layer|classifier)\..*",)
_BODY = "backbone.body."


def _branches(count: int) -> Conversion:
    """A list with the channels of each branch, of which every one has twice those of the one before."""

    def read(value):
        if not isinstance(value, list | tuple) or len(value) != count:
            raise ValueError
        first = whole(1).read(value[0])
        if list(value) != [first * 2**i for i in range(count)]:
            raise ValueError
        return first

    text = "one number" if count == 1 else f"{count} numbers, each twice the one before"
    return Conversion(f"a list of {text}", read, lambda width: [width * 2**i for i in range(count)])


def _equal(count: int) -> Conversion:
    """A list with the blocks of each branch, which all have as many."""

    def read(value):
        if not isinstance(value, list | tuple) or len(value) != count or len(set(value)) > 1:
            raise ValueError
        return whole(1).read(value[0])

    return Conversion(f"a list of {count} equal numbers", read, lambda blocks: [blocks] * count)


def _stage(number: int) -> tuple[Setting, ...]:
    key = f"backbone.extra.stage{number}"
    return (
        fixed(f"{key}.num_branches", MISSING, number),
        fixed(f"{key}.block", MISSING, "BASIC" if number > 1 else "BOTTLENECK"),
        Setting(f"{key}.num_blocks", MISSING, _equal(number), "backbone.blocks"),
        Setting(
            f"{key}.num_channels",
            MISSING,
            _branches(number),
            "backbone.width" if number > 1 else "backbone.first_width",
        ),
    )


_SETTINGS = (
    *(row for number in range(1, 5) for row in _stage(number)),
    fixed("backbone.extra.stage1.num_modules", MISSING, 1),
    Setting("backbone.norm_cfg.eps", 1e-5, number(), "backbone.norm_epsilon"),
    fixed("backbone.in_channels", 3, 3),
    fixed("backbone.multiscale_output", True, True),
    fixed("backbone.conv_cfg", None, None),
)
_MODULES = tuple(Setting(f"backbone.extra.stage{i}.num_modules", MISSING, whole(1)) for i in (2, 3, 4))
# The norm is read with those of the other parts.
MMDET_KEYS = {row.key for row in (*_SETTINGS, *_MODULES)} | {
    "backbone.type", "backbone.norm_eval", "backbone.norm_cfg",
    *(f"backbone.norm_cfg.{name}" for name in ("type", "requires_grad", "momentum")),
}  # fmt: skip


def names(library: str, part: HRNetConfig, source: str, target: str = _BODY) -> Names:
    """Return the rows of a library; arguments as of a ResNet's."""
    if library != "mmdet":
        return Names([], {})
    rows = []

    def layer(theirs: str, ours: str, norm: str = "") -> None:
        """Add a convolution and its norm, which are numbers 0 and 1 of a list or have names of their own."""
        conv, norm = (theirs, norm) if norm else (f"{theirs}.0", f"{theirs}.1")
        rows.append(Row(f"{source}{conv}.weight", f"{target}{ours}.conv.kernel", CONV))
        rows.append(Row(f"{source}{norm}.{{norm}}", f"{target}{ours}.norm.{{norm}}"))

    layer("conv{stem}", "stem.{stem}", norm="bn{stem}")
    block = "layer1.{b}"
    branch, ours = "stage{s}.{m}.branches.{i}.{b}", "stage{s}.{m}.branches.{i}.{b}"
    for theirs, path in ((block, block), (branch, ours)):
        rows.append(Row(f"{source}{theirs}.conv{{k}}.weight", f"{target}{path}.conv{{k}}.kernel", CONV))
        rows.append(Row(f"{source}{theirs}.bn{{k}}.{{norm}}", f"{target}{path}.bn{{k}}.{{norm}}"))
    rows.append(Row(f"{source}{block}.downsample.0.weight", f"{target}{block}.downsample.conv.kernel", CONV))
    rows.append(Row(f"{source}{block}.downsample.1.{{norm}}", f"{target}{block}.downsample.bn.{{norm}}"))
    layer("transition1.0", "enter")
    for i in range(3):
        layer(f"transition{i + 1}.{i + 1}.0", f"begin.{i}")
    pairs = [(i, j) for i in range(4) for j in range(4)]
    up, down = ({f"{i}.{j}": f"{i}.{j}" for i, j in pairs if (j > i) == coarser and i != j}
                for coarser in (True, False))  # fmt: skip
    layer("stage{s}.{m}.fuse_layers.{up}", "stage{s}.{m}.fuse.{up}.0")
    layer("stage{s}.{m}.fuse_layers.{down}.{k}", "stage{s}.{m}.fuse.{down}.{k}")
    return Names(rows, {"norm": NORM, "stem": {"1": "0", "2": "1"}, "up": up, "down": down})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no HRNet."""
    if f"{_BODY}begin.0.conv.kernel" not in shapes:
        return None
    modules = [count_layers(shapes, f"{_BODY}stage{s}.{{}}.fuse.0.1.0.conv.kernel") for s in (2, 3, 4)]
    return {
        "backbone.width": shapes[f"{_BODY}begin.0.conv.kernel"][-1] // 2,
        "backbone.first_width": shapes[f"{_BODY}layer1.0.conv1.kernel"][-1],
        "backbone.blocks": count_layers(shapes, f"{_BODY}layer1.{{}}.conv1.kernel"),
        "backbone.modules": tuple(modules),
        "backbone.norm": "bn",
    }


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.backbone
    assert isinstance(part, HRNetConfig)
    fields = ("width", "first_width", "blocks", "modules")
    return {f"backbone.{name}": getattr(part, name) for name in fields} | {"backbone.norm": "bn"}


def describe(part: HRNetConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(HRNetConfig(width=18))
        'HRNet-W18'
    """
    return f"HRNet-W{part.width}"


def read_mmdet(settings: Settings, config: dict[str, Any]) -> None:
    """Read MMDetection's settings of an HRNet."""
    config |= settings.fields(_SETTINGS)
    modules = tuple(settings.get(row) for row in _MODULES)
    config["backbone.modules"] = None if None in modules else modules


def write_mmdet(config: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_mmdet`."""
    assert isinstance(config.backbone, HRNetConfig)
    modules = dict(zip((row.key for row in _MODULES), config.backbone.modules, strict=True))
    return {**write(_SETTINGS, config, config), **modules}
