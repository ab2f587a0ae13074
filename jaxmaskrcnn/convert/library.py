"""What is particular to one source library, in one object."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.fields import get_field
from jaxmaskrcnn.convert.names.tables import Table
from jaxmaskrcnn.convert.structure import structure

# A test for what a library cannot do with a model, and the words for it.
Limit = tuple[Callable[[ModelConfig], bool], str]


@dataclass(frozen=True, kw_only=True)
class Library:
    """A source library.

    Attributes:
        name: As the part of a preset's name before the slash, and as ``export --format``.
        title: For messages.
        convention: The fields of ModelConfig that its models have in common.
        table: Its names, for a configuration.
        signature: A name that each of its FPN detectors has, and no other library's.
        backbone: Prefix of the ResNet's names.
        box_conv: Pattern of the names of the box head's convolutions, whose number torchvision's
            other names depend on.
        frozen_counters: Whether frozen batch norm has a ``num_batches_tracked`` too.
        input_names: Names under which a file may hold the pixel mean and standard deviation; () if none.
        config_file: What its config files are, with an article; None where names and arrays say enough.
        config_suffixes: Of these files.
        config_inside: Finds the text of the config in a checkpoint's other entries, where it writes one.
        read_settings: The configuration in a text that ``write_settings`` made, or in one like it. Takes
            the text, a name of its source for errors, and whether to refuse also what changes training only.
        write_settings: A configuration in the library's own words.
        impossible: Tests for models that it has no names or no place for.
        limits: Tests for what it cannot build, although the settings say it.
    """

    name: str
    title: str
    convention: Mapping[str, Any]
    table: Callable[[ModelConfig], Table]
    signature: str
    backbone: str
    box_conv: str
    frozen_counters: bool
    input_names: tuple[str, ...]
    config_file: str | None
    config_suffixes: tuple[str, ...]
    config_inside: Callable[[Mapping[str, Any]], str | None] | None = None
    read_settings: Callable[..., ModelConfig]
    write_settings: Callable[[ModelConfig], str]
    impossible: tuple[Limit, ...]
    limits: tuple[Limit, ...]

    @property
    def background(self) -> str:
        """The place of the background among its classes, "first" or "last"."""
        return get_field(self.usual, "background")

    @property
    def usual(self) -> ModelConfig:
        """The configuration of its convention."""
        return ModelConfig(**self.convention)

    def structure(self, arrays: Mapping[str, np.ndarray], what: str = "the checkpoint") -> dict[str, Any]:
        """The fields of ModelConfig that a detector's arrays tell; see `structure.structure`.

        Args:
            arrays: By this library's names.
            what: Names the source in an error.

        Raises:
            UserError: The arrays are no ResNet-FPN detector of a known depth.
        """
        box_convs = sum(re.fullmatch(self.box_conv, name) is not None for name in arrays)
        table = self.table(ModelConfig(num_classes=1, box_convs=box_convs))
        shapes = {}
        for name, array in arrays.items():
            if (translated := table.translate(name)) is not None:
                path, transform = translated
                shapes[path] = transform.to_model_if_possible(array).shape
        return structure(shapes, what)

    def counters(self, names: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
        """The ``num_batches_tracked`` that the library's batch norm layers have, all 0.

        Args:
            names: A detector's arrays by this library's names.
            config: Says which norm layers are frozen.
        """
        fixed = get_field(config, "backbone_norm") == "frozen_bn" and not self.frozen_counters
        return {
            f"{name.removesuffix('running_var')}num_batches_tracked": np.zeros((), np.int64)
            for name in names
            if name.endswith(".running_var") and not (fixed and name.startswith(self.backbone))
        }


RPN_NORM: Limit = (
    lambda c: get_field(c, "rpn_norm") != "none",
    "its region proposal network has norm layers",
)
