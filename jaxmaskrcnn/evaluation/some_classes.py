"""Chooses the classes that a model and a json have in common, for a model with more classes than the json."""

from collections.abc import Sequence
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

SHARED = "shared"  # in the place of names: all classes that both have


def common_classes(
    config: ModelConfig, annotated: Sequence[Category], chosen: Sequence[str], path: Any = None
) -> tuple[Category | None, ...]:
    """Finds the category of an annotation file for each label of a model, by their names.

    Args:
        config: The model's configuration.
        annotated: The annotations' categories.
        chosen: Names or ids of those that are scored, or only "shared" for all whose names the model has. The
            case of names does not matter.
        path: Their file, for messages.

    Returns:
        ``config.num_classes`` categories; None for labels that are not scored.

    Raises:
        UserError: The model has no names, a class is not in both, or none is.

    Example:
        >>> config = ModelConfig(num_classes=2, categories=(Category(1, "cat"), Category(2, "dog")))
        >>> common_classes(config, [Category(7, "Dog")], ["shared"])
        (None, Category(id=7, name='Dog'))
    """
    file = "The annotations" if path is None else str(path)
    if not config.categories:
        raise UserError(
            "--classes compares names, and the model's classes have none; give the model its categories, or "
            "leave --classes out."
        )
    labels = {category.name.strip().lower(): k for k, category in enumerate(config.categories)}
    names = {category.name.strip().lower(): category for category in annotated}
    by_id = {str(category.id): category for category in annotated}
    words = [word.strip() for word in chosen if word.strip()]
    if [word.lower() for word in words] == [SHARED] and SHARED not in names:
        scored = [category for name, category in names.items() if name in labels]
    else:
        scored = []
        for word in words:
            category = by_id.get(word) or names.get(word.lower())
            if category is None:
                raise UserError(f"{file} has no class {word!r}; its classes are {_some(annotated)}.")
            if category.name.strip().lower() not in labels:
                raise UserError(
                    f"The model has no class {category.name!r} of {file}; its classes are "
                    f"{_some(config.categories)}."
                )
            scored.append(category)
    if not scored:
        raise UserError(
            f"No class is scored: {file} has {_some(annotated)}, and the model {_some(config.categories)}; "
            "give annotations whose classes have the model's names."
        )
    found: list[Category | None] = [None] * config.num_classes
    for category in scored:
        found[labels[category.name.strip().lower()]] = category
    return tuple(found)


def _some(categories: Sequence[Category]) -> str:
    names = ", ".join(category.name for category in categories[:20])
    return f"{names}, ..." if len(categories) > 20 else names
