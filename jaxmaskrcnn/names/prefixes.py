"""The prefix of the names in a checkpoint file."""

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from jaxmaskrcnn.errors import UserError

# Prefixes of all names: DistributedDataParallel, torch.compile, Lightning, averaged models, and
# MMDetection's wrapper of Detectron2 models.
WRAPPERS = re.compile(r"((module|_orig_mod|model|detector|ema_model|d2_model)\.)*")

# Counters of averaged models, which have no prefix: torch's and MMEngine's.
AVERAGE_COUNTERS = ("n_averaged", "steps")

# The first words of names inside of a detector or a backbone, where a prefix that is shared by all ends.
_PARTS = re.compile(
    r"backbone|body|bottom_up|stem|conv\d*|bn\d*|layer\d+|res\d+|s\d+|fpn\w*|neck|proposal_generator|rpn(_head)?|"
    r"roi_heads?|fc|head"
)

_Value = TypeVar("_Value")


def without_compilers_marks(arrays: Mapping[str, _Value]) -> dict[str, _Value]:
    """Remove the mark that torch.compile adds to the names inside of each module that it compiled.

    Args:
        arrays: Values by name.

    Returns:
        The same values, without the mark in their names; all unchanged if two would have one name.

    Example:
        >>> list(without_compilers_marks({"backbone._orig_mod.fpn.bias": 0}))
        ['backbone.fpn.bias']
    """
    plain = {re.sub(r"(^|(?<=\.))_orig_mod\.", "", name): value for name, value in arrays.items()}
    return plain if len(plain) == len(arrays) else dict(arrays)


def shared_prefix(names: Collection[str]) -> str:
    """Return the prefix that all names share, up to the first word for a part of a network.

    Args:
        names: The names in a file; counters of averaged models do not count.

    Returns:
        The prefix with its dot, or "".

    Example:
        >>> shared_prefix(["student.net.backbone.body.conv1.weight", "student.net.rpn.head.conv.0.0.bias"])
        'student.net.'
    """
    modules = [name.split(".")[:-1] for name in names if name not in AVERAGE_COUNTERS]
    prefix = ""
    for words in zip(*modules, strict=False) if len(modules) > 1 else ():
        if len(set(words)) > 1 or _PARTS.fullmatch(words[0]):
            break
        prefix += f"{words[0]}."
    return prefix


def detector_prefix(names: Collection[str], signature: str, what: str) -> str | None:
    """Find the prefix of a detector's names, whatever it is.

    Args:
        names: The names in the file.
        signature: The name that each detector of a library has exactly once.
        what: The file, for messages.

    Returns:
        The prefix with its dot, or ""; None if the file holds no such detector.

    Raises:
        UserError: The file holds several such detectors.

    Example:
        >>> detector_prefix(["net.rpn.bias", "loss.weight"], "rpn.bias", "a file")
        'net.'
    """
    return find_prefix(names, signature, re.compile(r"(.*\.)?"), what, "detectors")


def find_prefix(
    names: Collection[str], signature: str, prefixes: re.Pattern, what: str, models: str
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
