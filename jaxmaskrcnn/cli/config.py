"""``jaxmaskrcnn config``: lists every setting of a run with its value and what it may be.

With a recipe its values are listed, and with settings theirs: ``jaxmaskrcnn config --recipe=finetune
--config.train.epochs=12 epochs``.
"""

import argparse

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.config.paths import settings
from jaxmaskrcnn.config.recipe_files import find_config, list_recipes
from jaxmaskrcnn.config.values import describe
from jaxmaskrcnn.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``config``."""
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="list only settings with each of these words in their name"
    )
    recipes = ", ".join(list_recipes())
    parser.add_argument(
        "--recipe", metavar="NAME",
        help=f"list the values of a recipe ({recipes}) or of a Python file with get_config()",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Prints the settings; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them, and ``settings``, the others.

    Returns:
        The exit code 0.

    Raises:
        UserError: No setting has all the words, or the recipe or a setting is wrong.
    """
    config = find_config(arguments.recipe).load() if arguments.recipe else Config()
    # Words behind a setting are taken for its value by argparse, and so are among the settings.
    dotted = [word for word in arguments.settings if word.startswith("-")]
    words = arguments.words + [word for word in arguments.settings if not word.startswith("-")]
    config = override(config, dotted)
    rows = [
        (path.replace(".architecture.", "."), value, expected)
        for path, value, expected in settings(config)
        if not path.endswith(".categories")  # those of the training data
    ]
    rows = [row for row in rows if all(word in row[0] for word in words)]
    if not rows:
        raise UserError(
            f"no setting has {' and '.join(map(repr, words))} in its name; leave the words out to see all."
        )
    for path, value, expected in rows:
        print(f"--config.{path}={written(value)}  # {describe(expected)}")
    return 0


def written(value) -> str:
    """Return a value as it is written on a command line.

    Example:
        >>> written((32.0, 64.0)), written(((16.0, 20.0), (32.0,))), written(None)
        ('32,64', '(16,20),(32,)', 'none')
    """
    if isinstance(value, tuple):
        groups = any(isinstance(item, tuple) for item in value)
        items = [_group(item) if groups else written(item) for item in value]
        return ",".join(items) + ("," if groups and len(items) == 1 else "")
    if value is None:
        return "none"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def _group(item: tuple) -> str:
    return f"({written(item)}{',' if len(item) == 1 else ''})"
