"""The prefix of the names in a checkpoint file."""

import re
from collections.abc import Iterable

from jaxmaskrcnn.errors import UserError

# Prefixes of all names: DistributedDataParallel, torch.compile, Lightning, averaged models, and
# MMDetection's wrapper of Detectron2 models.
WRAPPERS = re.compile(r"((module|_orig_mod|model|detector|ema_model|d2_model)\.)*")

# Counters of averaged models, which have no prefix: torch's and MMEngine's.
AVERAGE_COUNTERS = ("n_averaged", "steps")


def find_prefix(
    names: Iterable[str], signature: str, prefixes: re.Pattern, what: str, models: str
) -> str | None:
    """Find the prefix of a model's names.

    Args:
        names: The names in the file.
        signature: The name that each such model has exactly once.
        prefixes: The prefixes that are accepted.
        what: The file, for messages.
        models: The type of models for messages, e.g. "detectors".

    Returns:
        The prefix, which may be empty; None if the file holds no such model.

    Raises:
        UserError: The file holds several such models.

    Example:
        >>> find_prefix(["module.fc.bias"], "fc.bias", WRAPPERS, "a file", "classifiers")
        'module.'
    """
    ends = [name.removesuffix(signature) for name in names if name.endswith(signature)]
    found = [end for end in ends if prefixes.fullmatch(end)]
    if len(found) > 1:
        raise UserError(
            f"{what} holds {len(found)} {models}, with the prefixes {', '.join(map(repr, found))}; "
            "keep only one of them in the file."
        )
    return found[0] if found else None


def without_prefix(name: str, prefix: str) -> str:
    """Remove the prefix of a name; mark a name without the prefix, to distinguish it from those with it."""
    if name.startswith(prefix) or name in AVERAGE_COUNTERS:
        return name.removeprefix(prefix)
    return f"{name} (without the prefix {prefix!r})"
