"""What stands in front of the names in a checkpoint file, and the names without it."""

import re
from collections.abc import Iterable

from jaxmaskrcnn.errors import UserError

# In front of all names: DistributedDataParallel, torch.compile, Lightning, averaged models.
# MMDetection's wrapper of Detectron2 models has one of its own.
WRAPPERS = re.compile(r"((module|_orig_mod|model|detector|ema_model|d2_model)\.)*")

# What averaged models count, beside the names behind their prefix: torch's and MMEngine's.
AVERAGE_COUNTERS = ("n_averaged", "steps")


def find_prefix(
    names: Iterable[str], signature: str, prefixes: re.Pattern, what: str, models: str
) -> str | None:
    """The prefix of a model's names.

    Args:
        names: In the file.
        signature: The name that each such model has once.
        prefixes: Those that count.
        what: Names the file in an error.
        models: What they are, e.g. "detectors".

    Returns:
        The prefix, which may be empty; None where no such model is in the file.

    Raises:
        UserError: There are two.

    Example:
        >>> find_prefix(["module.fc.bias"], "fc.bias", WRAPPERS, "a file", "classifiers")
        'module.'
    """
    ends = [name.removesuffix(signature) for name in names if name.endswith(signature)]
    found = [end for end in ends if prefixes.fullmatch(end)]
    if len(found) > 1:
        raise UserError(
            f"{what} holds {len(found)} {models}, behind the prefixes {', '.join(map(repr, found))}; "
            "leave one of them in the file."
        )
    return found[0] if found else None


def without_prefix(name: str, prefix: str) -> str:
    """A name without its prefix; one that lacks it is marked, lest it be taken for the one behind it."""
    if name.startswith(prefix) or name in AVERAGE_COUNTERS:
        return name.removeprefix(prefix)
    return f"{name} (not behind {prefix!r})"
