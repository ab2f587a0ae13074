"""Reads yaml whose aliases do not describe more values than a config can have."""

from typing import Any

import yaml

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.plain_values import LIMIT, check_size


def plain_yaml(text: str, source: str, loader: type[yaml.SafeLoader] | type[yaml.BaseLoader]) -> Any:
    """Read one yaml document.

    Args:
        text: The yaml.
        source: The file, for messages.
        loader: Which of yaml's types values get; one that makes plain values only.

    Returns:
        Dictionaries, lists and plain values.

    Raises:
        UserError: It holds more values than a config can have.
        yaml.YAMLError: It is not yaml.
        RecursionError: It is nested too deeply.

    Example:
        >>> plain_yaml("a: &x [1, 2]\\nb: *x", "a.yaml", yaml.SafeLoader)
        {'a': [1, 2], 'b': [1, 2]}
    """
    reader = loader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        # Before values are made of the nodes, as merge keys (<<) would already be copied then.
        if _count(node, {}) > LIMIT:
            raise UserError(f"{source} holds more than {LIMIT} values; give a config without repetitions.")
        value = reader.construct_document(node)
    finally:
        reader.dispose()
    check_size(value, source)
    return value


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values below a node; a part that several aliases name counts as often."""
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]
