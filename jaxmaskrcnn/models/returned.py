"""Check what the parts of a detector return, and what a detector is called with.

An array of another shape often goes on without an error: K logits in the place of K + 1 are a detector that
never finds its last class. Shapes are static, so the checks cost no time in a compiled program.

Shapes: B images, N anchors, R regions of all images, D detection slots of an image, K object classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmaskrcnn.config import ConfigError
from jaxmaskrcnn.config.heads import Classes
from jaxmaskrcnn.ops.shapes import shape_of
from jaxmaskrcnn.structures import Batch, LossTerm


def check_batch(method: str, batch: Any, targets: bool = False) -> None:
    """Check what a method of a detector is called with.

    Args:
        method: The method, for the message.
        batch: What it is called with.
        targets: Whether it has to have targets.

    Raises:
        ConfigError: It is no `Batch`, or has no targets.

    Example:
        >>> try:
        ...     check_batch("detect", jnp.zeros((1, 64, 64, 3)))
        ... except jmr.ConfigError as error:
        ...     print(str(error)[:66])
        detect is called with an array of the shape [1, 64, 64, 3]; give a
    """
    if not isinstance(batch, Batch):
        found = f"an array of the shape {list(batch.shape)}" if hasattr(batch, "shape") else (
            f"a value of the type {type(batch).__name__}"
        )  # fmt: skip
        raise ConfigError(
            f"{method} is called with {found}; give a Batch, which make_batch(model, images) makes of uint8 "
            "RGB arrays, or call a Predictor with the images themselves."
        )
    if targets and batch.targets is None:
        raise ConfigError(
            f"{method} is called with a batch without targets; give them to make_batch(model, images, "
            "targets)."
        )


def check_proposal_outputs(part: Any, found: Any, images: int, sizes: Sequence, anchors: int) -> None:
    """Check what the region proposal network returns.

    Args:
        part: The module, for the message.
        found: What it returned.
        images: B.
        sizes: Height and width of each level.
        anchors: Anchors of a cell.

    Raises:
        ConfigError: It is not objectness [B, N] and deltas [B, N, 4].
    """
    count = anchors * sum(height * width for height, width in sizes)
    cells = " + ".join(f"{height} x {width}" for height, width in sizes)
    _check_pair(
        part,
        found,
        ("objectness logits", (images, count)),
        ("deltas", (images, count, 4)),
        f"{anchors} anchors for each of {cells} cells",
    )


def check_box_outputs(part: Any, found: Any, regions: int, classes: Classes, boxes: int) -> None:
    """Check what a box head returns.

    Args:
        part: The module, for the message.
        found: What it returned.
        regions: R.
        classes: Gives the number of logits.
        boxes: Boxes that the configuration has for each region: one, or as many as the logits.

    Raises:
        ConfigError: It is not logits, [R, K + 1] for most scores, and deltas [R, boxes, 4].

    Example:
        >>> try:
        ...     check_box_outputs(None, (jnp.zeros((9, 3)), jnp.zeros((9, 4, 4))), 9, Classes(3, "first"), 4)
        ... except jmr.ConfigError as error:
        ...     print(str(error)[-72:])
        [9, 4]: a logit for each of 3 classes and for the background, the first.
    """
    each = (
        "one box for all classes (box.class_agnostic)"
        if boxes == 1
        else (f"a box for each {'logit' if classes.offset else 'class'}")
    )
    _check_pair(
        part,
        found,
        ("logits", (regions, classes.logits)),
        ("deltas", (regions, boxes, 4)),
        f"a logit for each of {classes.count} classes and for the background, the "
        f"{classes.background}{f', and {classes.more_logits} before it' if classes.more_logits else ''}",
        each,
    )


def check_terms(part: Any, terms: Any, images: int, others: Mapping[str, Any]) -> None:
    """Check the losses of a region head.

    Args:
        part: The module, for the message.
        terms: What it returned.
        images: B.
        others: The losses of other parts.

    Raises:
        ConfigError: They are no `LossTerm`s [B] by name, or another part has a loss of the same name.
    """
    name = _name(part)
    fine = isinstance(terms, Mapping) and all(isinstance(x, LossTerm | tuple) for x in terms.values())
    if not fine or not all(len(term) == 2 for term in terms.values()):
        raise ConfigError(
            f"{name}.loss_terms returns {_told(terms)}; return a dictionary with a LossTerm (total, count) "
            "for each loss."
        )
    for key, term in terms.items():
        shapes = [list(shape_of(x)) for x in term]
        if shapes != [[images], [images]]:
            raise ConfigError(
                f"{name}.loss_terms returns {key} with the shapes {shapes[0]} and {shapes[1]}; return a "
                f"total and a count for each of the {images} images, [{images}], as jax.vmap over the images "
                "does."
            )
        if not key.startswith("loss_"):
            raise ConfigError(
                f"{name}.loss_terms returns {key!r}; begin its name with loss_, as the log and charts know "
                "losses by that."
            )
        if key in others:
            raise ConfigError(
                f"{name}.loss_terms returns {key}, which another part has too; give it another name."
            )


def check_predictions(part: Any, found: Any, slots: tuple[int, int]) -> None:
    """Check the predictions of a region head.

    Args:
        part: The module, for the message.
        found: What it returned.
        slots: B and D.

    Raises:
        ConfigError: They are no arrays [B, D, ...] by name.
    """
    name = _name(part)
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"{name}.predict returns {_told(found)}; return a dictionary with an array [B, D, ...] for each "
            "prediction."
        )
    for key, value in found.items():
        if tuple(shape_of(value)[:2]) != slots:
            raise ConfigError(
                f"{name}.predict returns {key} with the shape {list(shape_of(value))}; return an array whose "
                f"first axes are those of found.valid, {list(slots)}."
            )


def _check_pair(part: Any, found: Any, first: tuple, second: tuple, *meanings: str) -> None:
    """Check that a part returned two arrays of certain shapes; the last meaning is that of the second."""
    name = _name(part)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ConfigError(f"{name} returns {_told(found)}; return {first[0]} and {second[0]}.")
    for value, (what, shape), meaning in zip(
        found, (first, second), (meanings[0], meanings[-1]), strict=True
    ):
        if tuple(shape_of(value)) != shape:
            raise ConfigError(
                f"{name} returns {what} of the shape {list(shape_of(value))}; return {list(shape)}: "
                f"{meaning}."
            )


def _name(part: Any) -> str:
    return "The part" if part is None else type(part).__name__


def _told(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"an array of the shape {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    return f"a value of the type {type(value).__name__}"
