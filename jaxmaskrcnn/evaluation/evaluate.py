"""Runs a detector over a data set and scores it.

The device computes the next batches while threads paste and encode the masks of earlier ones.

Shape legend: B images of a batch, D detection slots.
"""

import collections
import concurrent.futures
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm
from flax import nnx

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.pipeline import eval_batches
from jaxmaskrcnn.data.prefetch import DataWait
from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth, unique_names
from jaxmaskrcnn.evaluation.panoptic import PanopticCounts, match_stuff, panoptic_metrics
from jaxmaskrcnn.evaluation.results import best_of_each_image, coco_results
from jaxmaskrcnn.evaluation.some_classes import common_classes
from jaxmaskrcnn.inference.categories import match_categories
from jaxmaskrcnn.inference.formats import write_segments
from jaxmaskrcnn.inference.postprocess import postprocess
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.parallel.processes import gather_json, is_first
from jaxmaskrcnn.structures import Batch, Category, Detections
from jaxmaskrcnn.utils.compilation_cache import release_after_compiling
from jaxmaskrcnn.utils.files import write_json

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """An evaluation was broken off, because its ``stop`` said so."""


class _OfImage(NamedTuple):
    """What was found in an image, which json can hold: COCO results, and of a panoptic model the counts of
    its segments and its entry in a json of segments."""

    entries: list[dict[str, Any]]
    counts: Any = None
    segments: Any = None


class Evaluator:
    """Scores a model on a data set repeatedly, but compiles only once.

    Args:
        config: The model's config.
        graphdef: The model's structure, from ``nnx.split``.
        source: Prepared data, as ``data.records.prepare.prepare`` returns it.
        data_config: Gives the batch size, canvases and threads of the evaluation, and its protocol.
        annotations: COCO-format json to score against; by default the one ``source`` was made from.
        progress: Whether to show a progress bar on stderr.
        layout: Devices to split every batch over; by default all that JAX has. The batch size is
            rounded up to a multiple of their number, which changes no result.
        segments: A json to which the segments of a panoptic model are written in COCO's format, with their
            pictures in a folder of its name; None writes none.
        classes: Names or ids of the annotations' categories that are scored, compared with the model's by
            name, or only "shared"; see `common_classes`. None scores all, which the model has to have.
        scored_per_image: Detections of an image, the best ones, that are scored; None scores all.

    Attributes:
        ground_truth: The annotations.
        iou_types: What is scored.
        categories: For each label of the model, its category in the annotations; None if it is not scored.

    Raises:
        UserError: The model's classes do not fit the annotations.

    Example:
        >>> graphdef, params, rest = nnx.split(model, trainable(model), ...)  # doctest: +SKIP
        >>> evaluator = Evaluator(model.config, graphdef, source, data_config)  # doctest: +SKIP
        >>> metrics, detections = evaluator.run(params, rest)  # doctest: +SKIP
    """

    def __init__(
        self,
        config: ModelConfig,
        graphdef: nnx.GraphDef,
        source,
        data_config: DataConfig,
        *,
        annotations: str | os.PathLike | dict | None = None,
        progress: bool = True,
        layout: Layout | None = None,
        segments: Path | None = None,
        classes: Sequence[str] | None = None,
        scored_per_image: int | None = None,
    ):
        self._segments, self._scored_per_image = segments, scored_per_image
        self._layout = Layout() if layout is None else layout
        self._config, self._source = config, source
        size = round_up(data_config.eval_batch_size, self._layout.mesh.size)
        self._data_config = dataclasses.replace(data_config, eval_batch_size=size)
        self._progress = progress
        if annotations is None:
            self.ground_truth = GroundTruth.of_source(source, data_config.eval_protocol)
            path = source.annotations
        else:
            reading = Reading(
                data_config.crowd, data_config.class_name, data_config.allow_outside, data_config.eval_stuff,
                config.semantic.stuff if config.semantic is not None and data_config.eval_stuff else (),
            )  # fmt: skip
            self.ground_truth = GroundTruth(
                annotations, data_config.on_error, reading=reading, keypoints=config.keypoints is not None,
                protocol=data_config.eval_protocol,
            )  # fmt: skip
            path = None if isinstance(annotations, dict) else annotations
        self.categories = self._match_classes(classes, path)
        truth = self.ground_truth
        self.iou_types: tuple[str, ...] = ("bbox",)
        if config.mask is not None and self.ground_truth.has_masks:
            self.iou_types = ("bbox", "segm")
        elif config.mask is not None:
            logger.warning("The annotations have no masks; only the boxes are scored.")

        if config.keypoints is not None and self.ground_truth.skeleton is not None:
            self.iou_types += ("keypoints",)
            self._check_keypoints(path)
        elif config.keypoints is not None:
            logger.warning("The annotations have no keypoints, which are not scored.")
        self._choose_measured(path)

        # Of a panoptic model: the annotated segments, and the annotations' categories of stuff.
        self._panoptic, self._stuff, self._keys = None, (), {}
        if config.semantic is not None and truth.panoptic is not None:
            self._panoptic, self._keys = truth.panoptic, truth.panoptic.keys()
            self._stuff = match_stuff(config, truth.panoptic.segments.stuff, path)
        elif config.semantic is not None:
            logger.warning("The annotations have no segments; panoptic quality is not scored.")

        def detect(states, batch):
            return nnx.merge(graphdef, *states).detect(batch)

        self._detect = release_after_compiling(self._layout.map_rows(detect))

    def _match_classes(self, classes: Sequence[str] | None, path: Any) -> tuple[Category | None, ...]:
        truth = self.ground_truth
        if classes is None:
            return match_categories(self._config, truth.categories, path, listed=truth.listed)
        if self._config.semantic is not None:
            raise UserError("The classes of a panoptic model are scored together; leave --classes out.")
        categories = common_classes(self._config, truth.categories, classes, path)
        self.ground_truth = truth.of_classes({c.id for c in categories if c is not None})
        return categories

    def _choose_measured(self, path: Any) -> None:
        """Leaves out what the protocol does not measure, and says which one it is if it is not COCO's."""
        rules = self.ground_truth.protocol
        if rules.name == "coco":
            return
        self.iou_types = tuple(kind for kind in self.iou_types if kind in rules.iou_types)
        if not self.iou_types:
            raise UserError(
                f"the protocol {rules.name!r} measures masks alone, and the model or the annotations have "
                "none; give the protocol 'coco'."
            )
        logger.info(
            "%s: detections are scored by the protocol %r, because %s.",
            path or "The annotations", rules.name, rules.reason,
        )  # fmt: skip

    def _check_keypoints(self, path: Any) -> None:
        part, skeleton = self._config.keypoints, self.ground_truth.skeleton
        assert part is not None and skeleton is not None
        if len(part.points) != len(skeleton.points):
            raise UserError(
                f"the objects of {path or 'the annotations'} have {len(skeleton.points)} keypoints and the "
                f"model {len(part.points)}; give annotations with the keypoints that the model has learned."
            )
        if part.points != skeleton.points:
            logger.warning(
                "The annotations name the keypoints otherwise than the model (%s, %s); they are compared by "
                "their numbers.", ", ".join(skeleton.points), ", ".join(part.points),
            )  # fmt: skip

    def run(
        self, *states: nnx.State, stop: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Detects and scores.

        Args:
            *states: The model's variables, as ``nnx.split`` returns them beside the graphdef.
            stop: Asked before every batch whether to break off.

        Returns:
            The metrics (see ``coco_metrics``) and the detections (COCO results). With several
            processes only the first one scores, but all get the metrics and the detections.

        Raises:
            Stopped: It was broken off.
        """
        found = self._detect_all(*states, stop=stop)
        detections = [entry for of_image in found for entry in of_image.entries]
        metrics = self.score(detections) if is_first() else None
        if metrics is not None and self._panoptic is not None:
            metrics = self._with_quality(metrics, [of_image.counts for of_image in found])
            if self._segments is not None:
                content = {"annotations": [of_image.segments for of_image in found]}
                write_json(self._segments, {**content, "categories": self._panoptic.entries()})
        return gather_json(metrics)[0], detections

    def score(self, detections: list[dict[str, Any]]) -> dict[str, Any]:
        """Scores COCO results, of each image best first; panoptic quality is not among the metrics."""
        if self._scored_per_image is not None:
            detections = best_of_each_image(detections, self._scored_per_image)
        sigmas = self._config.keypoints.known_sigmas if self._config.keypoints else ()
        return self.ground_truth.score(detections, self.iou_types, sigmas)

    def detect(self, *states: nnx.State, stop: Callable[[], bool] = lambda: False) -> list[dict[str, Any]]:
        """Detects objects in the whole data set, in its order, and returns them as COCO results.

        Every image is computed once, by one device; slots that only fill up the last batch of a canvas
        are dropped. Arguments and errors are those of `run`.
        """
        return [e for of_image in self._detect_all(*states, stop=stop) for e in of_image.entries]

    def _detect_all(self, *states: nnx.State, stop: Callable[[], bool]) -> list["_OfImage"]:
        """The results of every image."""
        states = self._layout.replicate(states)
        results: dict[int, _OfImage] = {}
        workers = min(8, os.cpu_count() or 1)
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        # In a log file every update is a separate line, so there are few of them.
        bar = tqdm.tqdm(
            total=len(self._source),
            desc="evaluating",
            unit="image",
            disable=not self._progress,
            mininterval=0.2 if sys.stderr.isatty() else 10,
        )
        with concurrent.futures.ThreadPoolExecutor(workers) as pool, bar:
            batches = eval_batches(
                self._source, self._config, self._data_config,
                process_index=jax.process_index(), process_count=jax.process_count(),
            )  # fmt: skip
            start, wait, detections = time.monotonic(), DataWait(), ()
            rows = iter(batches)
            for _ in range(len(batches)):
                if stop():
                    raise Stopped
                batch = wait.next(rows, detections)._replace(targets=None)
                detections = self._detect(states, self._layout.split(batch))
                waiting.append(pool.submit(self._to_results, detections, batch))
                # The queue is short, because every batch in it keeps its images in memory.
                if len(waiting) > workers + 1:
                    self._collect(waiting.popleft(), results, bar)
            while waiting:
                self._collect(waiting.popleft(), results, bar)
        seconds = time.monotonic() - start
        logger.info(
            "Detected in %d images in %.1f s (%.1f images/s); the device waited for data for %.1f %% of it.",
            len(results), seconds, len(results) / max(seconds, 1e-9), 100 * wait.seconds / max(seconds, 1e-9),
        )  # fmt: skip
        parts = gather_json(list(results.items()))
        everywhere = {index: _OfImage(*found) for part in parts for index, found in part}
        return [everywhere[index] for index in sorted(everywhere)]

    @staticmethod
    def _collect(future, results, bar):
        found = future.result()
        results |= found
        bar.update(len(found))

    def _to_results(self, detections: Detections, batch: Batch) -> dict[int, "_OfImage"]:
        """COCO results by position in the source, because batches are ordered by canvas."""
        detections = self._layout.local_rows(detections)
        if None in self.categories:
            scored = np.array([category is not None for category in self.categories])
            valid = np.asarray(detections.valid) & scored[np.asarray(detections.labels)]
            detections = detections._replace(valid=valid)
        categories = [category or Category(0, "") for category in self.categories]
        results = {}
        for i in np.flatnonzero(batch.valid):
            out = postprocess(
                jax.tree.map(lambda x, i=i: x[i], detections),
                batch.image_sizes[i],
                batch.original_sizes[i],
                self._config,
                masks="rle",
                categories=categories,
                stuff=self._stuff,
            )
            index = int(batch.index[i])
            image_id = int(self._source.image_ids[index])
            counts = written = None
            if self._panoptic is not None:
                matches = self._panoptic.count(self._keys[image_id], out["panoptic"], out["segments"])
                counts = [values.tolist() for values in matches]
                if self._segments is not None:
                    written = write_segments(out, image_id, self._segments.with_suffix(""))
            results[index] = _OfImage(coco_results(out, image_id, self._config.keypoints), counts, written)
        return results

    def _with_quality(self, metrics: dict[str, Any], counts: list[Any]) -> dict[str, Any]:
        """The metrics with panoptic quality, of all classes and of each."""
        assert self._panoptic is not None
        categories = self._panoptic.categories
        total = PanopticCounts.none(len(categories))
        for of_image in counts:
            total += PanopticCounts(*map(np.asarray, of_image))
        quality = panoptic_metrics(total, categories, len(self._panoptic.things))
        per_class = dict(metrics["per_class"])
        for name, row in zip(unique_names(categories), quality.pop("per_class"), strict=True):
            per_class[name] = {**per_class.get(name, {}), **row}
        return {**metrics, **quality, "per_class": per_class}


def evaluate(
    model,
    source,
    data_config: DataConfig,
    *,
    annotations: str | os.PathLike | dict | None = None,
    progress: bool = True,
    segments: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Runs a detector on a data set once and scores it; for repeated use see ``Evaluator``.

    Args:
        model: MaskRCNN.
        source: Prepared data.
        data_config: Gives the batch size, canvases and threads of the evaluation, and its protocol.
        annotations: COCO-format json; by default the one ``source`` was made from.
        progress: Whether to show a progress bar.
        segments: A json to which the segments of a panoptic model are written, see ``Evaluator``.

    Returns:
        The metrics (see ``coco_metrics``) and the detections (COCO results).

    Example:
        >>> source = prepare("val.json", "val", "cache")  # doctest: +SKIP
        >>> metrics, detections = evaluate(model, source, DataConfig())  # doctest: +SKIP
        >>> metrics["mask_AP"]  # doctest: +SKIP
    """
    graphdef, state = nnx.split(model)
    evaluator = Evaluator(
        model.config, graphdef, source, data_config, annotations=annotations, progress=progress,
        segments=segments,
    )  # fmt: skip
    return evaluator.run(state)
