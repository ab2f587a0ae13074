"""Tables of names that map a source library's parameters to a model's, strict in both directions.

A table is a list of rows ``(source name, target path, transform)``. Names in braces are
placeholders. Some, like ``{norm}``, have a vocabulary that translates their values; all others are
numbers that do not change.

    Row("res{stage}.{block}.conv{k}.weight", "layer{stage}.{block}.conv{k}.kernel", CONV)

A table is applied from left to right to load a checkpoint, and from right to left to write one.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.prefixes import AVERAGE_COUNTERS

Vocabulary = Mapping[str, Mapping[str, str]]


class Transform(NamedTuple):
    """A change of an array's order of axes or of numbers along one; values do not change.

    Attributes:
        to_model: Converts the source's array to the model's.
        to_source: Converts the model's array to the source's.
    """

    to_model: Callable[[np.ndarray], np.ndarray]
    to_source: Callable[[np.ndarray], np.ndarray]

    def to_model_if_possible(self, array: np.ndarray) -> np.ndarray:
        """Apply ``to_model``; an array with a wrong number of axes is returned unchanged."""
        try:
            return self.to_model(array)
        except ValueError:
            return array


SAME = Transform(lambda x: x, lambda x: x)
# torch's [out, in / groups, h, w] and Flax's [h, w, in / groups, out].
CONV = Transform(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
# [out, in] and [in, out].
LINEAR = Transform(lambda x: x.transpose(1, 0), lambda x: x.transpose(1, 0))
# torch's transposed convolution [in, out, h, w] and `Deconv2x2`'s [h, w, in, out].
DECONV = Transform(lambda x: x.transpose(2, 3, 0, 1), lambda x: x.transpose(2, 3, 0, 1))


def patches(side: int) -> Transform:
    """Return the transform of a convolution whose stride is its size, as a linear layer of its cells.

    torch's weights are [out, in, side, side], here they are [side * side * in, out].

    Args:
        side: Height and width of the kernel.
    """

    def to_source(x):
        return x.reshape(side, side, -1, x.shape[-1]).transpose(3, 2, 0, 1)

    return Transform(lambda x: x.transpose(2, 3, 1, 0).reshape(-1, len(x)), to_source)


# Keras' transposed convolution [h, w, out, in] and `Deconv2x2`'s [h, w, in, out].
KERAS_DECONV = Transform(lambda x: x.transpose(0, 1, 3, 2), lambda x: x.transpose(0, 1, 3, 2))


def _swap_pairs(array: np.ndarray) -> np.ndarray:
    groups = array.reshape(*array.shape[:-1], -1, 4)
    return groups[..., [1, 0, 3, 2]].reshape(array.shape)


# Four deltas for each box along the last axis: dy, dx, dh, dw and dx, dy, dw, dh.
YX_DELTAS = Transform(_swap_pairs, _swap_pairs)


def keras_flattened(side: int) -> Transform:
    """Return the transform of a convolution over a whole region, as a fully connected layer of its cells.

    Args:
        side: Height and width of the region; 1 for the layers that follow.
    """

    def to_source(x):
        return x.reshape(side, side, -1, x.shape[-1])

    return Transform(lambda x: x.reshape(-1, x.shape[-1]) if x.ndim == 4 else x, to_source)


def flattened(side: int) -> Transform:
    """Return the transform of the first fully connected layer, whose input is a flattened region.

    torch flattens regions as (channel, y, x), this library as (y, x, channel).

    Args:
        side: Height and width of the region, ``box.pool.size``.
    """

    def to_model(x):
        return CONV.to_model(x.reshape(len(x), -1, side, side)).reshape(-1, len(x))

    def to_source(x):
        return CONV.to_source(x.reshape(side, side, -1, x.shape[1])).reshape(x.shape[1], -1)

    return Transform(to_model, to_source)


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        source: The source library's name, with placeholders.
        target: Path of the model's array, with the same placeholders.
        transform: Conversion between the two arrays.
        alias: Whether the name is read but not written, as it is older or of another architecture.
    """

    source: str
    target: str
    transform: Transform = SAME
    alias: bool = False


def weight_and_bias(source: str, target: str, transform: Transform = CONV, alias: bool = False) -> list[Row]:
    """Return the two rows of a layer; the second one is unused if the layer has no bias."""
    return [
        Row(f"{source}.weight", f"{target}.kernel", transform, alias),
        Row(f"{source}.bias", f"{target}.bias", SAME, alias),
    ]


class Names(NamedTuple):
    """The rows of a part of a model.

    Attributes:
        rows: The rows. If two of them match a name, the first one counts.
        vocabulary: Translation of placeholders' values: source word -> target word.
    """

    rows: list[Row]
    vocabulary: Vocabulary


class Assignment(NamedTuple):
    """The result of applying a table to a file.

    Attributes:
        values: Arrays by the model's paths.
        ignored: Source names that no model needs.
        left: Paths of the new heads' arrays, which have no value in the file.
    """

    values: dict[str, np.ndarray]
    ignored: tuple[str, ...]
    left: tuple[str, ...]


class Table:
    """Compiled rows.

    Args:
        rows: The rows. If two of them match a name, the first one counts.
        vocabulary: Translation of placeholders' values: source word -> target word.
        ignorable: Regular expressions of source names that no model needs.

    Example:
        >>> table = Table([Row("bn{k}.{norm}", "norm{k}.{norm}")], {"norm": {"weight": "scale"}}, [])
        >>> table.translate("bn2.weight")[0]
        'norm2.scale'
        >>> list(table.export({"norm2.scale": np.ones(3)}))
        ['bn2.weight']
    """

    def __init__(self, rows: Iterable[Row], vocabulary: Vocabulary, ignorable: Iterable[str]):
        backwards = {key: {new: old for old, new in words.items()} for key, words in vocabulary.items()}
        rows = list(rows)
        self._forwards = [_Line(row.source, row.target, vocabulary, row.transform) for row in rows]
        self._backwards = [
            _Line(row.target, row.source, backwards, row.transform) for row in rows if not row.alias
        ]
        patterns = (*ignorable, *AVERAGE_COUNTERS)
        self._ignorable = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    @classmethod
    def of(cls, parts: Iterable[Names], ignorable: Iterable[str] = ()) -> "Table":
        """Make one table from several parts, each with its own vocabulary."""
        table = cls([], {}, ignorable)
        for part in parts:
            own = cls(part.rows, part.vocabulary, ())
            table._forwards += own._forwards
            table._backwards += own._backwards
        return table

    def translate(self, name: str) -> tuple[str, Transform] | None:
        """Return the target path and transform of a source name, or None if no row matches."""
        return _first(self._forwards, name)

    def ignores(self, name: str) -> bool:
        """Whether a source name is known to be unused."""
        return self._ignorable.fullmatch(name) is not None

    def export(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a model's arrays by the source library's names, in its order of axes.

        Args:
            values: Arrays by the model's paths.

        Returns:
            One contiguous array per path.

        Raises:
            UserError: The library has no names for some of the arrays; all are listed.
        """
        exported, unknown = {}, []
        for path, value in values.items():
            translated = _first(self._backwards, path)
            if translated is None:
                unknown.append(path)
            else:
                name, transform = translated
                exported[name] = np.ascontiguousarray(transform.to_source(np.asarray(value)))
        if unknown:
            raise UserError(
                "The library has no names for these arrays of the model:\n  " + "\n  ".join(unknown)
            )
        return exported

    def assign(
        self,
        arrays: Mapping[str, np.ndarray],
        shapes: Mapping[str, tuple[int, ...]],
        what: str,
        new_heads: Collection[str] = (),
    ) -> Assignment:
        """Assign a value to every array of a model.

        Args:
            arrays: The source's arrays, by its names.
            shapes: Shapes of the model's arrays, by path.
            what: First part of an error, e.g. "R-50.pkl does not fit the backbone".
            new_heads: Paths whose array may have another shape in the source; it is then left out.

        Returns:
            One value of the right shape for every path of ``shapes`` except those left.

        Raises:
            UserError: Lists every array without a source, source without an array, array with two
                sources and mismatched shape.
        """
        values, sources, ignored, left = {}, {}, [], []
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
            value = transform.to_model_if_possible(array)
            if value.shape == tuple(shapes[target]):
                values[target] = value
            elif target in new_heads:
                left.append(target)
            else:
                shape_errors.append(
                    f"{target} {tuple(shapes[target])} (from {name}, {array.shape} in the file, "
                    f"{value.shape} in the model's order of axes)"
                )
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
        return Assignment(values, tuple(ignored), tuple(left))


class _Line:
    """A pattern, its result, and the vocabulary of its placeholders."""

    def __init__(self, pattern: str, result: str, vocabulary: Vocabulary, transform: Transform):
        parts = []
        for literal, key in re.findall(r"([^{]*)(?:\{(\w+)\})?", pattern):
            parts.append(re.escape(literal))
            if key:
                words = "|".join(map(re.escape, vocabulary[key])) if key in vocabulary else r"\d+"
                parts.append(f"(?P<{key}>{words})")
        self._pattern, self._result = re.compile("".join(parts)), result
        self._vocabulary, self._transform = vocabulary, transform

    def apply(self, name: str) -> tuple[str, Transform] | None:
        match = self._pattern.fullmatch(name)
        if match is None:
            return None
        words = {
            key: self._vocabulary[key][word] if key in self._vocabulary else word
            for key, word in match.groupdict().items()
        }
        return self._result.format(**words), self._transform


def _first(lines: list[_Line], name: str) -> tuple[str, Transform] | None:
    return next((found for line in lines if (found := line.apply(name)) is not None), None)
