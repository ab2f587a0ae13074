"""Fetches the metrics of a run, logs a line at intervals, and reports a loss that is not finite."""

import collections
import contextlib
import logging
import time
from collections.abc import Callable, Iterator

import jax
import tqdm

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.data.prefetch import DataWait
from jaxmaskrcnn.parallel.processes import all_rows
from jaxmaskrcnn.structures import Batch
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.usage import memory_usage
from jaxmaskrcnn.utils.loss_names import losses_among, short_name

log = logging.getLogger(__name__)


class Progress:
    """Follows the steps of a run without making the device wait.

    The metrics of a step are fetched when the next one has been dispatched. A line in the log and in
    metrics.jsonl has the means over the steps since the previous line.

    Args:
        writer: Writer of metrics.jsonl.
        config: Configuration of the run.
        on_nonfinite: Called with the number, the positions of the images and the metrics of a step that
            is not finite. An exception that it raises ends the run or rolls it back; if it returns, the
            step is left out of the means.
    """

    def __init__(self, writer: MetricsWriter, config: Config, on_nonfinite: Callable):
        self._writer, self._config, self._on_nonfinite = writer, config, on_nonfinite
        self._waiting = None
        self._sums: dict[str, float] = collections.defaultdict(float)
        self._count = 0
        self._shapes: set[tuple] = set()
        self._paused, self._since, self._wait = 0.0, time.monotonic(), DataWait()
        self._bar: tqdm.tqdm | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        """Returns the next batch; the next line reports how long the device waited for it."""
        return self._wait.next(batches, self._waiting[2] if self._waiting else ())

    def step(self, step: int, index: jax.Array, metrics: dict[str, jax.Array]) -> None:
        """Record a dispatched step.

        Args:
            step: Number of the step, counted from 1.
            index: int [B], positions in the source of its images.
            metrics: Metrics of the step, on the device.

        Raises:
            Exception: Raised by ``on_nonfinite``, if the previous step was not finite.
        """
        self.flush()
        self._waiting = (step, index, metrics)
        if self._bar is None:  # on a terminal alone; the log has lines of its own
            self._bar = tqdm.tqdm(
                desc="training", unit="step", total=self._config.train.steps, initial=step - 1, disable=None,
                leave=False,
            )  # fmt: skip
        self._bar.update()

    def flush(self) -> None:
        """Wait for the last step and process its metrics.

        Raises:
            Exception: Raised by ``on_nonfinite``, if the step was not finite.
        """
        if self._waiting is None:
            return
        (step, index, device_metrics), self._waiting = self._waiting, None
        metrics = {name: value.item() for name, value in jax.device_get(device_metrics).items()}
        if not metrics.pop("finite"):
            self._on_nonfinite(step, all_rows(index), metrics)
        else:
            for name, value in metrics.items():
                self._sums[name] += value
            self._count += 1
        if step % max(self._config.train.log_every, 1) == 0 or step == self._config.train.steps:
            if self._count:  # 0 if every step since the last line was skipped
                self._write(step, metrics["learning_rate"])

    def rewind(self, step: int) -> None:
        """Drop the records after a step, because the run goes back to it."""
        self._waiting = None
        self._start_line()
        self._writer.rewind(step)
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, step: int, rate: float) -> None:
        train = self._config.train
        seconds = max(time.monotonic() - self._since - self._paused, 1e-9)
        means = {name: total / self._count for name, total in self._sums.items()}
        speed = self._count * self._config.data.batch_size / seconds
        line = progress_line(step, train.steps, {**means, "learning_rate": rate}, speed,
                             (train.steps - step) * seconds / self._count)  # fmt: skip
        log.info("%s", line)
        pace = {
            "images_per_second": speed,
            "seconds_per_step": seconds / self._count,
            "data_wait": min(self._wait.seconds / seconds, 1.0),
            "time": time.time(),
        }
        self._writer.write(step, {**means, "learning_rate": rate, **pace, **memory_usage()})
        self._start_line()

    def _start_line(self) -> None:
        self._sums.clear()
        self._count, self._paused, self._since, self._wait = 0, 0.0, time.monotonic(), DataWait()

    @contextlib.contextmanager
    def pause(self):
        """Exclude the time spent in the block from the speed."""
        start = time.monotonic()
        yield
        self._paused += time.monotonic() - start

    @contextlib.contextmanager
    def compiling(self, batch: Batch):
        """Reports before and after the dispatch of a step that compiles for a new canvas."""
        shape = batch.images.shape
        shapes = (shape, None if batch.raw is None else batch.raw.pixels.shape)
        if shapes in self._shapes:
            yield
            return
        self._shapes.add(shapes)
        # Otherwise the rest of the previous step would count as compilation.
        self.flush()
        log.info("Compiling the training step for %d images of %d x %d ...", *shape[:3])
        start = time.monotonic()
        with self.pause():
            yield
        log.info("Compiled for %d images of %d x %d in %.1f s.", *shape[:3], time.monotonic() - start)


def progress_line(
    step: int, steps: int, metrics: dict[str, float], images_per_second: float, seconds_left: float
) -> str:
    """One line for a log.

    Args:
        step: Completed steps.
        steps: Length of the run.
        metrics: Metrics of the train step, as Python numbers.
        images_per_second: Speed over all devices.
        seconds_left: Estimated remaining time.

    Returns:
        For example ``step 120/1000  loss 1.234 (objectness 0.210 ...)  lr 0.02  12.3 images/s
        ETA 0:03:21``.
    """
    terms = " ".join(f"{short_name(name)} {metrics[name]:.3f}" for name in losses_among(metrics))
    return (
        f"step {step:{len(str(steps))}d}/{steps}  loss {metrics['loss']:.3f} ({terms})  "
        f"lr {metrics['learning_rate']:.3g}  {images_per_second:.1f} images/s  ETA {duration(seconds_left)}"
    )


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``0:03:21``."""
    minutes, seconds = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
