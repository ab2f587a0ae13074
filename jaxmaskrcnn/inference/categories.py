"""Matches the labels of a model with the categories of an annotation file."""

import logging
import os
from collections.abc import Sequence

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.choice import count_classes
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.structures import Category

logger = logging.getLogger(__name__)


def match_categories(
    config: ModelConfig,
    annotated: tuple[Category, ...],
    path: str | os.PathLike | None = None,
    *,
    listed: tuple[Category, ...] = (),
) -> tuple[Category, ...]:
    """Finds the category of an annotation file that corresponds to each label of a model.

    Args:
        config: The model's configuration. If its ``label_order`` is "list", the labels are the categories
            of the annotations' list, or those among them whose names the model has. Otherwise, if it names
            categories, these are used. Otherwise, if there are as many labels as categories, the labels are
            the annotations' categories in ascending order of id. Otherwise, if the model's label 0 is the
            background and all ids of the annotations are among the labels, labels are category ids (as in
            torchvision).
        annotated: The annotations' categories in ascending order of id.
        path: Their file, for messages.
        listed: The annotations' categories in the order of their list; by default ``annotated``.

    Returns:
        ``config.num_classes`` categories.

    Raises:
        UserError: The model has classes that the annotations do not have.

    Example:
        >>> match_categories(ModelConfig(num_classes=1), (Category(7, "balloon"),))
        (Category(id=7, name='balloon'),)
    """
    names = {c.id: c.name for c in annotated}
    file = "" if path is None else f" {path}"
    if config.label_order == "list" and config.categories:
        return _named_in_list_order(config, listed or annotated, file)
    if not config.categories:
        if config.label_order == "list" and len(annotated) == config.num_classes:
            return listed or annotated
        if len(annotated) == config.num_classes:
            return annotated
        if config.background == "first" and names.keys() <= {c.id for c in config.known_categories()}:
            return tuple(Category(c.id, names.get(c.id, c.name)) for c in config.known_categories())
        found = f"{len(annotated)} categor{'y' if len(annotated) == 1 else 'ies'}"
        raise UserError(
            f"The model has {count_classes(config.num_classes)} without names, but the annotations{file} "
            f"have {found}; give annotations with the classes it was trained on."
        )
    # Weights trained on COCO's 91 ids have slots that no category uses.
    unknown = [c for c in config.categories if c.id not in names and c.name != "N/A"]
    if unknown:
        raise UserError(
            f"The annotations{file} lack {len(unknown)} of the model's {config.num_classes} categories: "
            f"{_some(unknown)}, and have {_some(annotated)}; give annotations with the categories it was "
            "trained on."
        )
    known = {c.id: c.name for c in config.categories}
    for c in annotated:
        if c.id not in known:
            logger.warning(
                "The annotations' category %d (%s) is unknown to the model; its objects will be missed.", *c
            )
        elif known[c.id] != c.name:
            logger.warning("Category %d is %r in the annotations, %r in the model.", *c, known[c.id])
    return config.categories


def _named_in_list_order(
    config: ModelConfig, listed: tuple[Category, ...], file: str
) -> tuple[Category, ...]:
    """Return the annotations' categories that a model names, in the order of their list.

    MMDetection only takes from the names of its classes which categories of the list it uses.
    """
    own = [category.name for category in config.categories]
    found = tuple(category for category in listed if category.name in own)
    if len(found) != config.num_classes:
        absent = [name for name in own if name not in {category.name for category in listed}]
        what = f"lack {', '.join(absent[:10])}" if absent else "have several categories of one name"
        raise UserError(
            f"The annotations{file} {what}, but the model's classes are {', '.join(own[:10])}, and the "
            f"annotations' {_some(listed)}; give annotations with the categories it was trained on."
        )
    if [category.name for category in found] != own:
        logger.warning(
            "The model names its classes %s, but the order of the annotations' list is %s; its labels follow "
            "the list, as in MMDetection.",
            ", ".join(own[:10]), ", ".join(category.name for category in found[:10]),
        )  # fmt: skip
    return found


def _some(categories: Sequence[Category]) -> str:
    return ", ".join(f"{c.id} ({c.name})" for c in categories[:10]) + (
        ", ..." if len(categories) > 10 else ""
    )


def name_classes(
    model: MaskRCNN,
    annotated: tuple[Category, ...],
    path: str | os.PathLike | None = None,
    *,
    listed: tuple[Category, ...] = (),
) -> None:
    """Gives a model whose weights came without category names the categories of annotations.

    Args:
        model: Changed in place. A model that knows its categories' ids keeps them.
        annotated: Categories in ascending order of id.
        path: Their file, for messages.
        listed: The categories in the order of the annotations' list; by default ``annotated``.

    Raises:
        UserError: As for `match_categories`, if the model names no categories.

    Example:
        >>> name_classes(model, (Category(7, "balloon"),))  # doctest: +SKIP
    """
    if not model.config.categories or model.config.label_order == "list":
        categories = match_categories(model.config, annotated, path, listed=listed)
        model.config = model.config.replace(categories=categories, label_order="id")
