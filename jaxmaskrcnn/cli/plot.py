"""``python -m jaxmaskrcnn plot``: draws losses, learning rate and AP over the steps of training runs."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.report.chart import Line, Panel, draw_chart
from jaxmaskrcnn.report.history import FILE, Series, read_history
from jaxmaskrcnn.stores.sending import sent_path
from jaxmaskrcnn.utils.files import complete_file
from jaxmaskrcnn.utils.loss_names import loss_title, losses_among

PICTURE = "metrics.png"

# Panels after those of the losses: title, and the series with their names in the key. The first is solid.
_OTHER_PANELS = (
    ("Learning rate", {"learning_rate": ""}),
    ("Box AP", {"eval/box_AP": "AP", "eval/box_AP50": "AP50"}),
    ("Mask AP", {"eval/mask_AP": "AP", "eval/mask_AP50": "AP50"}),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``plot``."""
    parser.add_argument(
        "workdirs", nargs="+", metavar="WORKDIR", help=f"folder of a training run with {FILE}"
    )
    parser.add_argument("--output", help=f"PNG file; default: {PICTURE} in the first workdir")


def run(arguments: argparse.Namespace) -> int:
    """Draws the chart; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: A workdir has no metrics or damaged ones, or the output is not a PNG.
    """
    given = arguments.output or f"{arguments.workdirs[0].rstrip('/') or '/'}/{PICTURE}"
    if PurePosixPath(given).suffix.lower() != ".png":
        raise UserError(f"--output is {given}, and the picture is a PNG; give a name that ends in .png.")
    histories = [read_history(workdir) for workdir in arguments.workdirs]
    panels = make_panels(histories)
    if not panels:
        raise UserError(f"{arguments.workdirs[0]} has none of the metrics that are drawn; train a few steps.")
    keys = arguments.workdirs if len(arguments.workdirs) > 1 else ()
    picture = draw_chart(panels, "step", keys)
    with sent_path(given, "--output", folder=False) as output, complete_file(output) as file:
        picture.save(file, "PNG", optimize=True)
    last = max(int(series.steps.max()) for history in histories for series in history.values())
    print(f"{len(panels)} panels up to step {last} are in {given}")
    return 0


def make_panels(histories: Sequence[Mapping[str, Series]]) -> list[Panel]:
    """Makes the panels for which a run has values; runs differ in colour, series of a run in dashes.

    Args:
        histories: History of each run, from ``read_history``.

    Returns:
        The panels: the total loss, each loss, learning rate, box AP and mask AP.
    """
    panels = []
    for title, names in (*_loss_panels(histories), *_OTHER_PANELS):
        known = {name for history in histories for name in names if _known(history, name)}
        lines = tuple(
            Line(
                history[name].steps, history[name].values, colour=i,
                name=words if len(known) > 1 else "", dashed=name != next(iter(names)), noisy="loss" in name,
            )
            for i, history in enumerate(histories)
            for name, words in names.items()
            if name in known and name in history
        )  # fmt: skip
        if lines:
            panels.append(Panel(title, lines))
    return panels


def _loss_panels(histories) -> list[tuple[str, dict[str, str]]]:
    names = {name.removeprefix("eval/"): None for history in histories for name in history}
    titles = {"loss": "Loss"} | {name: loss_title(name) for name in losses_among(names)}
    return [(title, {name: "training", f"eval/{name}": "evaluation"}) for name, title in titles.items()]


def _known(history, name) -> bool:
    return name in history and bool(np.isfinite(history[name].values).any())
