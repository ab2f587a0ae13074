"""How long a model takes for an image, by stage: reading, computing on the device, making results.

One image after the other gives the latency of each stage. In a stream the stages of several images run side
by side, which is how ``predict`` and `Predictor.stream` work, and gives the number of images a second.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.postprocess import postprocess_batch
from jaxmaskrcnn.inference.predictor import Predictor, canvas_of, stack
from jaxmaskrcnn.utils.compiler_options import compiler_options

PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}


def benchmark(model, source, *, images: int = 50, batch_size: int = 1) -> dict[str, Any]:
    """Measures a model on the images of a data set.

    Args:
        model: MaskRCNN.
        source: Prepared data, whose images are taken in their order, again from the first if there are few.
        images: Number of images that are measured.
        batch_size: Images of a batch of the stream.

    Returns:
        ``images``, ``device``, ``batch_size``; ``stages``: for "reading" (decoding, resizing, padding),
        "computing" (to the device, the network, and back), "results" (boxes at the image's scale, masks
        pasted and encoded as RLE) and "whole" the ``mean``, the percentiles ``p50``, ``p90`` and ``p99`` and
        the ``max``, in milliseconds; ``one_by_one`` and ``streamed``, images a second. Compilation is not
        among them: of each canvas one image is computed before.

    Example:
        >>> benchmark(model, source)["stages"]["whole"]["p99"]  # doctest: +SKIP
        23.1
    """
    config = model.config
    graphdef, state = nnx.split(model)
    detect = jax.jit(
        lambda state, batch: nnx.merge(graphdef, state).detect(batch), compiler_options=compiler_options()
    )
    warm: set[tuple[int, int]] = set()
    seconds = []
    for i in itertools.islice(itertools.cycle(range(len(source))), images):
        start = time.perf_counter()
        pixels = source[i].pixels(config.input.pixels)
        batch = make_batch(config, [pixels])
        canvas = canvas_of(batch.images.shape[1:3], config)
        batch = stack([batch], canvas, 1)
        read = time.perf_counter()
        if canvas not in warm:
            warm.add(canvas)
            jax.block_until_ready(detect(state, batch))
        begun = time.perf_counter()
        detections = jax.tree.map(np.asarray, detect(state, batch))
        computed = time.perf_counter()
        postprocess_batch(detections, batch.image_sizes, batch.original_sizes, config, masks="rle")
        seconds.append((read - start, computed - begun, time.perf_counter() - computed))
    stages = np.array(seconds).T * 1000
    rows = dict(zip(("reading", "computing", "results"), stages, strict=True)) | {"whole": stages.sum(0)}
    return {
        "images": images,
        "device": jax.devices()[0].device_kind,
        "batch_size": batch_size,
        "stages": {
            name: {"mean": float(row.mean())}
            | {key: float(np.percentile(row, percent)) for key, percent in PERCENTILES.items()}
            for name, row in rows.items()
        },
        "one_by_one": 1000 * images / float(stages.sum()),
        "streamed": _streamed(model, source, images, batch_size),
    }


def _streamed(model, source, images: int, batch_size: int) -> float:
    """Images a second of a stream, which was run before, so that all its canvases are compiled."""
    predictor = Predictor(model, max_batch=batch_size)

    def pictures() -> Iterator[np.ndarray]:
        for i in itertools.islice(itertools.cycle(range(len(source))), images):
            yield source[i].pixels(predictor.config.input.pixels)

    for _ in predictor.stream(pictures(), masks="rle"):
        pass
    start = time.perf_counter()
    count = sum(1 for _ in predictor.stream(pictures(), masks="rle"))
    return count / (time.perf_counter() - start)
