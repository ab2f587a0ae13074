"""Everything that is specific to one source library, in one object."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import FPNConfig, ModelConfig
from jaxmaskrcnn.convert.extras import Extra
from jaxmaskrcnn.convert.files.reader import SourceFile
from jaxmaskrcnn.convert.structure import detector_names, read_structure
from jaxmaskrcnn.names.tables import Table

# A test for a model that a library cannot represent, and the reason in words.
Limit = tuple[Callable[[ModelConfig], bool], str]


class StoredSettings(NamedTuple):
    """Settings that a file, or one beside it, holds besides the arrays.

    Attributes:
        config: The configuration with these settings.
        note: Where they stand, in a sentence.
        epsilon: The epsilon of the backbone's norm layers, if it is stated.
    """

    config: ModelConfig
    note: str
    epsilon: float | None = None


@dataclass(frozen=True, kw_only=True)
class Library:
    """A source library.

    Attributes:
        name: Name in presets (before the slash) and in ``export --format``.
        title: Name in messages.
        convention: The settings that its models have in common, by dotted path.
        signature: An array name that all of its detectors have, and no other library's.
        ignorable: Patterns of names that no model needs.
        frozen_counters: Whether frozen batch norm also has a ``num_batches_tracked``.
        input_names: Names that files may use for the pixel mean and standard deviation; () if none.
        config_file: Name of its config files with an article; None if the arrays determine the model.
        config_suffixes: Suffixes of these files.
        config_inside: Finds the config's text in a checkpoint's other entries; None if it writes none.
        class_names: Finds the classes' names in a checkpoint's other entries; None if it writes none.
        stored_settings: Reads settings that a file, or one beside it, has besides the arrays, given the
            configuration that these imply; None if there are no such settings.
        label_order: As ``label_order`` of `ModelConfig`, for a model that was trained with it.
        read_settings: Reads text written by ``write_settings``, or similar text. Takes the text, its name
            in errors, and whether to also reject unsupported settings that only affect training.
        write_settings: Writes a configuration in the library's own format.
        has: What its models can have and those of some other library cannot, see `extras.py`.
        impossible: Tests for further models that the library cannot represent.
        limits: Tests for models that it cannot build, although its settings can describe them.
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
    class_names: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None
    stored_settings: Callable[[ModelConfig, SourceFile], StoredSettings | None] | None = None
    label_order: str = "id"
    read_settings: Callable[..., ModelConfig]
    write_settings: Callable[[ModelConfig], str]
    has: tuple[Extra, ...]
    impossible: tuple[Limit, ...]
    limits: tuple[Limit, ...]

    @property
    def background(self) -> str:
        """The position of the background among its classes, "first" or "last"."""
        return self.usual.background

    @property
    def usual(self) -> ModelConfig:
        """The configuration with its conventions."""
        return ModelConfig().replace(self.convention)

    def table(self, config: ModelConfig) -> Table:
        """Return its names for the arrays of a configuration's model."""
        return Table.of(detector_names(self.name, config), self.ignorable)

    def structure(self, arrays: Mapping[str, np.ndarray], what: str = "the checkpoint") -> dict[str, Any]:
        """Infer settings from a detector's arrays; see `structure.read_structure`.

        Args:
            arrays: Arrays by this library's names.
            what: Names the source in an error.

        Raises:
            UserError: The arrays are not those of a supported detector.
        """
        return read_structure(self.name, arrays, what)

    def counters(self, names: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
        """Return the ``num_batches_tracked`` of the library's batch norm layers, all 0.

        Args:
            names: A detector's arrays by this library's names.
            config: Determines which norm layers are frozen.
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


# Limits of all libraries, as far as their settings are written here.
EVERYWHERE: tuple[Limit, ...] = (
    (lambda c: bool(c.build_model), "a function of its own makes it (build_model)"),
    (
        lambda c: not c.input.pixels.has_colours,
        "its pictures are not red, green and blue (input.pixels.channels, input.pixels.pages)",
    ),
    (lambda c: bool(c.heads), "it has further region heads (heads)"),
    (lambda c: bool(c.extra), "it learns from extra ground truth (extra)"),
    (
        lambda c: (
            c.neck is not None
            and isinstance(c.neck, FPNConfig)
            and [x.stride for x in c.pooled_levels] != [4, 8, 16, 32]
        ),
        "its feature pyramid is not on C2 to C5",
    ),
    (
        lambda c: not c.box.convs and not c.box.fcs and c.trunk is None,
        "its box head has neither convolutions nor fully connected layers",
    ),
    (lambda c: c.rpn.norm != "none", "its region proposal network has norm layers"),
    (
        lambda c: "ln" in (getattr(c.neck, "norm", ""), c.box.norm, getattr(c.mask, "norm", "")),
        "its feature pyramid or its heads have layer norm",
    ),
)
