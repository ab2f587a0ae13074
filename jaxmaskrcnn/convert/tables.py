"""Name tables: from a source library's parameters to a model's, strict in both directions.

A table is a tuple of rows ``(source name, target path, transform)``. Names in braces are
placeholders. ``{norm}`` and the like have a vocabulary that translates what they stand for;
those without one are numbers that stay as they are.

    Row("res{stage}.{block}.conv{k}.weight", "layer{stage}.{block}.conv{k}.kernel", conv_kernel)
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.errors import UserError


def conv_kernel(weight: np.ndarray) -> np.ndarray:
    """torch's [out, in / groups, h, w] to Flax's [h, w, in / groups, out]."""
    return weight.transpose(2, 3, 1, 0)


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        source: The source library's name, with placeholders.
        target: Path of the model's array, with the same placeholders.
        transform: From the source's array to the model's; None leaves it as it is.
    """

    source: str
    target: str
    transform: Callable[[np.ndarray], np.ndarray] | None = None


Vocabulary = Mapping[str, Mapping[str, str]]


class Assignment(NamedTuple):
    """What a table made of a file.

    Attributes:
        values: Arrays by the model's paths.
        ignored: Source names that no model needs.
    """

    values: dict[str, np.ndarray]
    ignored: tuple[str, ...]


class Table:
    """Compiled rows.

    Args:
        rows: The lines.
        vocabulary: For each placeholder that translates: source word -> target word.
        ignorable: Regular expressions of source names that no model needs.

    Example:
        >>> table = Table([Row("bn{k}.{norm}", "norm{k}.{norm}")], {"norm": {"weight": "scale"}}, [])
        >>> table.translate("bn2.weight")[0]
        'norm2.scale'
    """

    def __init__(self, rows: Iterable[Row], vocabulary: Vocabulary, ignorable: Iterable[str]):
        self._rows = [(re.compile(_pattern(row.source, vocabulary)), row) for row in rows]
        self._vocabulary = vocabulary
        self._ignorable = re.compile("|".join(f"(?:{pattern})" for pattern in ignorable) or "(?!)")

    def translate(self, name: str) -> tuple[str, Callable | None] | None:
        """The target path and transform of a source name, or None where no row fits."""
        for pattern, row in self._rows:
            if match := pattern.fullmatch(name):
                words = {
                    key: self._vocabulary[key][word] if key in self._vocabulary else word
                    for key, word in match.groupdict().items()
                }
                return row.target.format(**words), row.transform
        return None

    def ignores(self, name: str) -> bool:
        """Whether a source name is known to be of no use."""
        return self._ignorable.fullmatch(name) is not None

    def assign(
        self, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], what: str
    ) -> Assignment:
        """Give every array of a model its value.

        Args:
            arrays: The source's, by its names.
            shapes: Of the model's arrays, by their paths.
            what: Names the two sides in an error, e.g. "R-50.pkl does not fit the backbone".

        Returns:
            One value of the right shape for every path of ``shapes``.

        Raises:
            UserError: Lists every array without a source, source without an array, array with two
                sources and shape that differs.
        """
        values, sources, ignored = {}, {}, []
        unknown, shape_errors, repeated = [], [], []
        for name, array in arrays.items():
            translated = self.translate(name)
            if translated is None:
                (ignored if self.ignores(name) else unknown).append(name)
                continue
            target, transform = translated
            if target not in shapes:
                unknown.append(name)
                continue
            if target in sources:
                repeated.append(f"{target} (from {sources[target]} and {name})")
                continue
            sources[target] = name
            # A transform may need its number of axes, so the file's own shape is compared where it fails.
            try:
                value = array if transform is None else transform(array)
            except ValueError:
                value = array
            if value.shape != tuple(shapes[target]):
                shape_errors.append(
                    f"{target} {tuple(shapes[target])} (from {name}, {array.shape} in the file, "
                    f"{value.shape} as the model orders it)"
                )
                continue
            values[target] = value
        missing = [target for target in shapes if target not in sources]
        problems = [
            ("without a value in the file", missing),
            ("in the file without a place in the model", unknown),
            ("with another shape", shape_errors),
            ("with two values", repeated),
        ]
        if any(names for _, names in problems):
            lists = "".join(
                f"\n{len(names)} {label}:\n  " + "\n  ".join(names) for label, names in problems if names
            )
            raise UserError(f"{what}; nothing was loaded.{lists}")
        return Assignment(values, tuple(ignored))


def _pattern(source: str, vocabulary: Vocabulary) -> str:
    parts = []
    for literal, key in re.findall(r"([^{]*)(?:\{(\w+)\})?", source):
        parts.append(re.escape(literal))
        if key:
            words = "|".join(map(re.escape, vocabulary[key])) if key in vocabulary else r"\d+"
            parts.append(f"(?P<{key}>{words})")
    return "".join(parts)
