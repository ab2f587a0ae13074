"""``jaxmaskrcnn evaluate`` and ``evaluate.py``: box and mask AP of a model on annotated images."""

import argparse
import contextlib
import logging
import tempfile
from pathlib import Path

from jaxmaskrcnn.cli.pixels import add_pixel_arguments, pixel_config
from jaxmaskrcnn.cli.reading import add_reading_arguments, reading_of
from jaxmaskrcnn.config import DataConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import complete_file, dump_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``evaluate``."""
    add = parser.add_argument
    add("--checkpoint", required=True, help="model directory, training workdir or checkpoint file")
    add(
        "--model",
        help="preset, directory, Detectron2 yaml or MMDetection config that the checkpoint is read with",
    )
    add("--bn_eps", type=float, help="epsilon of the backbone's norm layers")
    add("--annotations", required=True, help="COCO-format json")
    add("--images", required=True, help="its image folder")
    add(
        "--protocol", choices=("auto", "coco", "lvis", "cityscapes"), default="auto",
        help="how detections are scored; auto: as LVIS for a json of LVIS, else as COCO",
    )  # fmt: skip
    add("--output", help="folder for metrics.json and detections.json")
    add("--batch_size", type=int, default=1, help="images computed at a time, over all devices")
    add("--on_error", choices=("stop", "skip"), default="stop", help="what to do with bad annotations")
    add_reading_arguments(parser, "regions that are not scored")
    add("--cache_dir", help="folder that keeps the prepared records for the next run")
    add_pixel_arguments(parser, "as the model was trained")
    add("--coordinator_address", help="with several processes: host:port of process 0")
    add("--num_processes", type=int, help="number of processes")
    add("--process_id", type=int, help="number of this process, from 0")


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, prints the tables and writes the results; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: The checkpoint, the annotations or a setting is wrong.
    """
    if arguments.batch_size < 1:
        raise UserError(f"--batch_size is {arguments.batch_size}; give 1 or more.")
    if arguments.output and Path(arguments.output).is_file():
        raise UserError(f"--output is the file {arguments.output}; give a folder.")
    # Imported here, so that --help does not wait for JAX.
    from jaxmaskrcnn.checkpoints.directory import load_model
    from jaxmaskrcnn.data.records.prepare import prepare
    from jaxmaskrcnn.evaluation.evaluate import evaluate
    from jaxmaskrcnn.evaluation.tables import format_metrics
    from jaxmaskrcnn.parallel.processes import initialize, is_first
    from jaxmaskrcnn.utils import compilation_cache
    from jaxmaskrcnn.weights.locate import locate

    # force=True, because imported libraries have already given the root logger a format of their own.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    log = logging.getLogger("jaxmaskrcnn")
    log.setLevel(logging.INFO)
    log.propagate = True  # a run of train in the same process has handlers of its own
    compilation_cache.enable()
    # Fetched before the processes join and wait for each other.
    located = locate(arguments.checkpoint, detector=True)
    initialize(arguments.coordinator_address, arguments.num_processes, arguments.process_id)
    if not is_first():
        log.setLevel(logging.WARNING)
    model = load_model(located.path, arguments.model or located.preset, bn_eps=arguments.bn_eps)
    pixels = pixel_config(arguments, model.config.input.pixels)
    model.config = model.config.replace({"input.pixels": pixels})
    semantic = model.config.semantic
    with tempfile.TemporaryDirectory(prefix="jaxmaskrcnn-", ignore_cleanup_errors=True) as temporary:
        source = prepare(
            arguments.annotations,
            arguments.images,
            arguments.cache_dir or temporary,
            arguments.on_error,
            masks=False,
            keypoints=model.config.keypoints is not None,
            reading=reading_of(arguments, semantic.stuff if semantic is not None else ()),
            pixels=pixels,
        )
        data = DataConfig(eval_batch_size=arguments.batch_size, eval_protocol=arguments.protocol)
        segments = None
        if arguments.output and semantic is not None and source.stuff is not None:
            segments = Path(arguments.output) / "segments.json"
            segments.unlink(missing_ok=True)  # of an earlier evaluation, whose pictures are replaced
        metrics, detections = evaluate(model, source, data, progress=is_first(), segments=segments)
    if is_first():
        print(format_metrics(metrics))
        if arguments.output:
            output = Path(arguments.output)
            with contextlib.ExitStack() as files:  # both files or none
                for name, content, indent in (
                    ("detections.json", detections, None),
                    ("metrics.json", metrics, 1),
                ):
                    file = files.enter_context(complete_file(output / name))
                    dump_json(file, content, indent=indent)
            written = "metrics.json and detections.json"
            if segments is not None:
                written = "metrics.json, detections.json, segments.json and its pictures"
            print(f"{written} are in {output}")
    return 0
