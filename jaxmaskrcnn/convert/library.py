"""What is particular to one source library, in one object."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.anchors import order_matters
from jaxmaskrcnn.convert.structure import detector_names, read_structure
from jaxmaskrcnn.names.tables import Table

# A test for what a library cannot do with a model, and the words for it.
Limit = tuple[Callable[[ModelConfig], bool], str]


@dataclass(frozen=True, kw_only=True)
class Library:
    """A source library.

    Attributes:
        name: As the part of a preset's name before the slash, and as ``export --format``.
        title: For messages.
        convention: The settings that its models have in common, by dotted path.
        signature: A name that each of its detectors has, and no other library's.
        ignorable: Patterns of names that no model needs.
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
    signature: str
    ignorable: tuple[str, ...]
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
        return self.usual.background

    @property
    def usual(self) -> ModelConfig:
        """The configuration of its convention."""
        return ModelConfig().replace(self.convention)

    def table(self, config: ModelConfig) -> Table:
        """Its names for the arrays of a configuration's model."""
        return Table.of(detector_names(self.name, config), self.ignorable)

    def structure(self, arrays: Mapping[str, np.ndarray], what: str = "the checkpoint") -> dict[str, Any]:
        """The settings that a detector's arrays show; see `structure.read_structure`.

        Args:
            arrays: By this library's names.
            what: Names the source in an error.

        Raises:
            UserError: The arrays are no detector of known parts.
        """
        return read_structure(self.name, arrays, what)

    def counters(self, names: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
        """The ``num_batches_tracked`` that the library's batch norm layers have, all 0.

        Args:
            names: A detector's arrays by this library's names.
            config: Says which norm layers are frozen.
        """
        fixed = config.backbone.norm == "frozen_bn" and not self.frozen_counters
        table = self.table(config)

        def frozen(name: str) -> bool:
            path, _ = table.translate(name)
            return fixed and path.startswith(("backbone.body.", "trunk."))

        return {
            f"{name.removesuffix('running_var')}num_batches_tracked": np.zeros((), np.int64)
            for name in names
            if name.endswith(".running_var") and not frozen(name)
        }


def other_order(order: str) -> Limit:
    """For a library that orders the anchors of a cell by this; a file's RPN would predict for others."""
    other = "size" if order == "ratio" else "ratio"
    return (
        lambda c: c.rpn.anchors.order == other and order_matters(c),
        f"its anchors of a cell are ordered by {other} first",
    )


# Settings are known of these parts alone.
OTHER_BACKBONE: Limit = (lambda c: c.backbone.kind != "resnet", "its backbone is no ResNet")
OTHER_NECK: Limit = (lambda c: c.neck is None or c.neck.kind != "fpn", "its neck is no feature pyramid")
TRUNK: Limit = (lambda c: c.trunk is not None, "its regions pass further layers before the heads")
AVERAGE: Limit = (lambda c: c.box.average, "its box head takes the mean of a region's cells")
PARTS = (OTHER_BACKBONE, OTHER_NECK, TRUNK, AVERAGE)

RPN_NORM: Limit = (
    lambda c: c.rpn.norm != "none",
    "its region proposal network has norm layers",
)
