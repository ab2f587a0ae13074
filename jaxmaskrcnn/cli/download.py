"""``jaxmaskrcnn download``: fetches published weights, for this machine or for one without a network.

Files are kept in $JAXMASKRCNN_HOME/weights, by default in the user's folder for caches, where every command
that is given the same name finds them.
"""

import argparse

from jaxmaskrcnn.cli.terminal import log_on_stderr
from jaxmaskrcnn.stores.filesystem import is_stored
from jaxmaskrcnn.weights.locate import download, published


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``download``."""
    parser.add_argument(
        "names", nargs="+", metavar="NAME",
        help="a model or a backbone of the command models, a backbone's file (NAME/FILE), or an address",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Fetches the files and prints their paths; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: A name is unknown, which is seen before anything is fetched, or a file cannot be fetched.
    """
    for name in arguments.names:
        if not is_stored(name):
            published(name)
    with log_on_stderr():
        for name in arguments.names:
            path = download(name)
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
