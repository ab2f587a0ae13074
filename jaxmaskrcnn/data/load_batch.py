"""From the plan of a batch to its arrays: images and objects read, decoded, transformed and padded.

Shape legend: B images of this process's batch, G ground-truth slots, H, W the canvas.
"""

import json

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data import sampler
from jaxmaskrcnn.data.augment_plan import ImagePlan, SlotPlan
from jaxmaskrcnn.data.copy_paste import choose_pasted, paste
from jaxmaskrcnn.data.device_resize import gather_raw
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.polygons import place_polygons, vertex_slots
from jaxmaskrcnn.data.preprocess import empty_targets, resize_for
from jaxmaskrcnn.data.scene import Scene, fill_targets, transform_scene
from jaxmaskrcnn.data.source import Example, Source
from jaxmaskrcnn.data.transforms import (
    clip_boxes,
    flip_boxes,
    not_degenerate,
    pack_rles,
    round_up,
    scale_boxes,
)
from jaxmaskrcnn.structures import Batch, Targets


class LoadBatch:
    """Loads the images (and objects) of a plan; picklable, so that it runs in any worker.

    Args:
        source: The data set.
        model: How images are resized and whether there are masks.
        objects: Ground-truth slots per image; None loads no targets.
        augmented: Whether the plans have augmentations. What cropping and pasting leave of an object
            is a bitmap, so polygons do not travel then.
        exact: Whether JPEG files are decoded at their full size, however small the network's input.
        raw: Whether images are only decoded, and resized on the device.
    """

    def __init__(
        self,
        source: Source,
        model: ModelConfig,
        objects: int | None,
        *,
        augmented: bool = False,
        exact: bool = True,
        raw: bool = False,
    ):
        self._source, self._model, self._objects = source, model, objects
        self._exact, self._raw = exact, raw
        self._masks, self._vertices = (model.mask_head, 0) if augmented else _mask_storage(source, model)

    def __call__(self, plan: sampler.StepPlan, whole: sampler.StepPlan | None = None) -> Batch:
        """NumPy arrays of one batch: [B, H, W, 3] images, uint8 unless the kernel is "torch".

        Args:
            plan: The images to load.
            whole: The plan of all processes that it is a part of; None: it is the whole.
        """
        count = len(plan.index)
        dtype = np.float32 if self._model.resize_kernel == "torch" else np.uint8
        images = np.zeros((count, *plan.canvas, 0 if self._raw else 3), dtype)
        decoded: list[np.ndarray | None] = [None] * count
        original_sizes = np.ones((count, 2), np.int32)
        # A slot without an image gets the extent of one pixel, so that nothing divides by zero.
        image_sizes = np.ones((count, 2), np.int32)
        targets = None
        if self._objects is not None:
            targets = empty_targets(
                count, self._objects, plan.canvas, masks=self._masks, vertices=self._vertices
            )
        for slot, index in enumerate(plan.index):
            if index < 0:
                continue
            if plan.augment:
                scene = self._scene(plan.augment[slot])
                size = scene.image.shape[:2]
                images[slot, : size[0], : size[1]] = scene.image
                original_sizes[slot], image_sizes[slot] = self._source.sizes[index], size
                if targets is not None:
                    fill_targets(targets, slot, scene)
                continue
            example = self._source[index]
            size = tuple(map(int, plan.sizes[slot]))
            pixels = self._pixels(example, None if self._exact else size)
            if self._raw:
                decoded[slot] = pixels
            else:
                image = resize_for(self._model, pixels, size)
                images[slot, : size[0], : size[1]] = image[:, ::-1] if plan.flip[slot] else image
            original_sizes[slot], image_sizes[slot] = example.size, size
            if targets is not None:
                self._fill(targets, slot, example, size, bool(plan.flip[slot]), plan.canvas)
        return Batch(
            images=images,
            image_sizes=image_sizes,
            extents=np.minimum(round_up(image_sizes, self._model.pad_divisor), plan.canvas).astype(np.int32),
            original_sizes=original_sizes,
            index=plan.index.astype(np.int32),
            valid=plan.index >= 0,
            targets=targets,
            raw=self._gather(decoded, plan.flip, plan if whole is None else whole) if self._raw else None,
        )

    def _gather(self, decoded: list[np.ndarray | None], flips: np.ndarray, whole: sampler.StepPlan):
        # What is decoded at a part of its size is smaller than the source says.
        sizes = self._source.sizes[whole.index] if self._exact else None
        return gather_raw(decoded, flips, sizes)

    def _scene(self, plan: SlotPlan) -> Scene:
        scene = self._transformed(plan.image)
        if plan.pasted is None:
            return scene
        other = self._transformed(plan.pasted)
        return paste(scene, other, choose_pasted(other.crowd, plan.choice))

    def _transformed(self, plan: ImagePlan) -> Scene:
        example = self._source[plan.index]
        return transform_scene(
            self._pixels(example),
            example,
            plan.geometry,
            plan.distortion,
            self._model,
            self._source.has_masks,
        )

    def _pixels(self, example: Example, at_least: tuple[int, int] | None = None) -> np.ndarray:
        name = f"image {example.image_id} ({example.file_name}) of {self._source.annotations}"
        return decode_image(example.image, size=example.size, name=name, at_least=at_least)

    def _fill(self, targets: Targets, slot: int, example: Example, size, flip: bool, canvas) -> None:
        boxes = clip_boxes(scale_boxes(example.boxes, example.size, size), size)
        chosen = np.flatnonzero(not_degenerate(boxes))
        masks = None
        if self._masks:
            rles = [example.rles[i] for i in chosen]
            masks = pack_rles(rles, example.size, size, canvas, self._model.resize_kernel, flip=flip)
            seen = masks.any(axis=(1, 2))
            chosen, masks = chosen[seen], masks[seen]
        if len(chosen) > self._objects:
            largest = np.sort(np.argsort(-example.areas[chosen], kind="stable")[: self._objects])
            chosen, masks = chosen[largest], None if masks is None else masks[largest]
        count = len(chosen)
        targets.boxes[slot, :count] = flip_boxes(boxes[chosen], size[1]) if flip else boxes[chosen]
        targets.labels[slot, :count] = example.labels[chosen]
        targets.crowd[slot, :count] = example.crowd[chosen]
        targets.valid[slot, :count] = True
        if masks is not None:
            targets.masks[slot, :count] = masks
        if self._vertices:
            for g, i in enumerate(chosen):
                if example.polygons[i] and not example.crowd[i]:
                    rings, parts = place_polygons(
                        json.loads(example.polygons[i]), example.size, size, flip=flip
                    )
                    targets.polygons[slot, g, : len(parts)] = rings
                    targets.polygon_parts[slot, g, : len(parts)] = parts


def _mask_storage(source: Source, model_config: ModelConfig) -> tuple[bool, int]:
    """Whether masks travel as bitmaps, and how many vertex slots an object has for its polygons."""
    if not model_config.mask_head:
        return False, 0
    largest = int(source.vertex_counts.max(initial=0))
    if model_config.mask_targets != "polygon" or not largest:
        return True, 0
    return bool(source.bitmap_counts.any()), vertex_slots(largest)
