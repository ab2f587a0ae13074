"""The predictor that a command's flags ask for; ``cli/versions.py`` defines them."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.augmentation import SCALES, AugmentedPredictor
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.inference.stream import StreamingPredictor
from jaxmaskrcnn.inference.tiles import TiledPredictor
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN


def make_predictor(
    model: MaskRCNN,
    arguments: argparse.Namespace,
    score_threshold: float | None,
    classes: Sequence[str] | None = None,
    thresholds: Mapping[int, float] | None = None,
) -> StreamingPredictor:
    """The predictor that ``--tta``, ``--tile`` and ``--batch_size`` ask for.

    Args:
        model: The detector.
        arguments: Of a command with these flags, checked by `check_versions`.
        score_threshold: As in `Predictor`.
        classes: As in `Predictor`.
        thresholds: As in `Predictor`.
    """
    options: dict[str, Any] = {"classes": classes, "thresholds": thresholds}
    if arguments.tta:
        scales = SCALES if arguments.tta_scales is None else _numbers(arguments.tta_scales, "--tta_scales")
        predictor = AugmentedPredictor(model, score_threshold, scales=scales, **options)
    else:
        predictor = Predictor(model, score_threshold, max_batch=arguments.batch_size, **options)
    if arguments.tile is not None:
        predictor = TiledPredictor(predictor, arguments.tile, arguments.tile_overlap)
    return predictor


def check_versions(arguments: argparse.Namespace) -> None:
    """Checks that the flags of `make_predictor` go together.

    Raises:
        UserError: They do not.
    """
    if arguments.batch_size < 1:
        raise UserError(f"--batch_size is {arguments.batch_size}; give 1 or more.")
    if arguments.tile is None and arguments.tile_overlap is not None:
        raise UserError("--tile_overlap has no effect without --tile; give the tiles' size too.")
    if arguments.tta_scales is not None and not arguments.tta:
        raise UserError("--tta_scales has no effect without --tta; give --tta too.")
    if arguments.tta and arguments.batch_size != 1:
        raise UserError("--batch_size has no effect with --tta, which takes images one by one; leave it out.")


def _numbers(text: str, name: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{name} is {text!r}; give numbers with commas between them.") from error
