"""Extra ground truth: numbers of objects and images that a recipe declares (`ExtraConfig`).

They go with the objects through all transforms, and none changes them. Records hold those of an image as one
json text, and only where some are declared.

Shape legend: G objects of an image, B images of a batch; (...) the shape that is declared.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ExtraConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Targets

EXTRA = "extra"  # its key in records, in targets, and among the names of what is read of a record


@dataclass(frozen=True, eq=False)
class Extra:
    """The extra ground truth of an image.

    Attributes:
        objects: By name, float32 [G, ...].
        image: By name, float32 [...].
    """

    objects: Mapping[str, np.ndarray]
    image: Mapping[str, np.ndarray]

    @classmethod
    def decode(cls, text: bytes | str) -> "Extra":
        """Reads what `encode` has written."""
        objects, image = json.loads(text)
        return cls(_arrays(objects), _arrays(image))

    def encode(self) -> str:
        """The numbers as a json text."""
        return json.dumps([{k: v.tolist() for k, v in part.items()} for part in (self.objects, self.image)])

    @classmethod
    def from_target(
        cls, target: Mapping, number: int, count: int, declared: Sequence[ExtraConfig]
    ) -> "Extra | None":
        """Checks the extra ground truth of a target given to ``make_batch``.

        Args:
            target: The mapping that the user gives.
            number: The image's position in the batch, for messages.
            count: G.
            declared: ``config.extra`` of the model.

        Returns:
            The numbers, or None where the model declares none.

        Raises:
            UserError: Some are missing, not declared, not finite or have another shape.
        """
        place = f"the target of image {number}"
        given = target.get(EXTRA, {})
        if not isinstance(given, Mapping) or set(given) - {x.name for x in declared}:
            known = (
                ", ".join(x.name for x in declared) or "nothing; declare it as extra of the model's config"
            )
            raise UserError(f"{place} has the extra {given!r}; the model declares {known}.")
        if not declared:
            return None
        parts: dict[str, dict[str, np.ndarray]] = {"object": {}, "image": {}}
        for x in declared:
            shape = (count, *x.shape) if x.of == "object" else x.shape
            if x.name in given:
                parts[x.of][x.name] = _checked(given[x.name], shape, f"{place} has the extra {x.name}")
            elif x.default is None:
                raise UserError(f"{place} has no extra {x.name!r}; give numbers of the shape {list(shape)}.")
            else:
                parts[x.of][x.name] = np.full(shape, x.default, np.float32)
        return cls(parts["object"], parts["image"])

    def take(self, chosen: np.ndarray) -> "Extra":
        """Those of some objects only, int [chosen], and of the image."""
        return Extra({name: values[chosen] for name, values in self.objects.items()}, self.image)

    def join(self, other: "Extra | None") -> "Extra":
        """Those of these objects and then of the others'; the image is this one."""
        assert other is not None  # both are read alike
        joined = {name: np.concatenate([v, other.objects[name]]) for name, v in self.objects.items()}
        return Extra(joined, self.image)

    @staticmethod
    def slots(batch: int, objects: int, declared: Sequence[ExtraConfig]) -> dict[str, np.ndarray] | None:
        """The arrays of ``Targets``, zeros; None where nothing is declared."""
        rows = {"object": (batch, objects), "image": (batch,)}
        return {x.name: np.zeros((*rows[x.of], *x.shape), np.float32) for x in declared} or None

    def fill(self, targets: Targets, image: int) -> None:
        """Writes the numbers of an image; ``targets`` is changed in place."""
        for name, slots in (targets.extra or {}).items():
            if name in self.image:
                slots[image] = self.image[name]
            else:
                slots[image, : len(self.objects[name])] = self.objects[name]


class ExtraOfJson:
    """The extra ground truth in a COCO json, which is looked up object by object.

    Args:
        content: The json.
        path: Its path, for messages.
        declared: What is read of it.
        ids: The numbers of annotations and of images by their ids as they are written, or None.
    """

    def __init__(
        self,
        content: Mapping,
        path: Path,
        declared: Sequence[ExtraConfig],
        ids: tuple[Callable[[Any], int | None], Callable[[Any], int | None]],
    ):
        self._path, self._declared = path, declared
        self._entries = {
            "object": _by_id(content["annotations"], ids[0]),
            "image": _by_id(content["images"], ids[1]),
        }

    def of_image(self, image_id: Any, objects: Iterable[tuple[int, bool]]) -> Extra:
        """Returns that of an image.

        Args:
            image_id: Its id, a number.
            objects: Id of each object, and whether it is a crowd region, which needs none.

        Raises:
            UserError: A value is missing, or is not what is declared.
        """
        objects = list(objects)
        of_objects = {
            x.name: np.stack([self._value(x, identity, crowd) for identity, crowd in objects])
            if objects
            else np.zeros((0, *x.shape), np.float32)
            for x in self._declared
            if x.of == "object"
        }
        return Extra(
            of_objects, {x.name: self._value(x, image_id) for x in self._declared if x.of == "image"}
        )

    def _value(self, declared: ExtraConfig, identity: Any, crowd: bool = False) -> np.ndarray:
        what = "annotation" if declared.of == "object" else "image"
        entry = self._entries[declared.of].get(identity)
        value = None if entry is None else entry.get(declared.name)
        if value is None and (crowd or declared.default is not None):
            return np.full(declared.shape, declared.default or 0.0, np.float32)
        place = f"{self._path}: {what} {identity}"
        if value is None:
            why = "" if entry else ", or its id is used twice"
            raise UserError(
                f"{place} has no {declared.name!r}, which the recipe declares as extra ground truth{why}; "
                "add it there, or declare it with a default."
            )
        return _checked(value, declared.shape, f"{place} has the extra {declared.name}")


def _by_id(entries: Iterable[Mapping], number: Callable[[Any], int | None]) -> dict[int | None, Mapping]:
    """Entries of a json by the numbers of their ids; an empty one for an id that is used twice."""
    found: dict[int | None, Mapping] = {}
    for entry in entries:
        key = number(entry.get("id"))
        found[key] = {} if key in found else entry
    return found


def _checked(value: Any, shape: tuple[int, ...], place: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        fine = array.shape == shape and array.dtype.kind in "iuf" and bool(np.isfinite(array).all())
    except (ValueError, TypeError):  # lists of different lengths
        array, fine = np.asarray(None), False
    if not fine and not (array.size == 0 and 0 in shape):
        text = repr(value)
        need = f"finite numbers of the shape {list(shape)}" if shape else "one finite number"
        raise UserError(f"{place} {text if len(text) < 80 else f'{text[:80]}...'}; give {need}.")
    return array.astype(np.float32).reshape(shape)


def _arrays(part: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, np.float32) for name, values in part.items()}
