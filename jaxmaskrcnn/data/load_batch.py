"""From the plan of a batch to its arrays: images and objects read, decoded, transformed and padded.

Shape legend: B images of this process's batch, G ground-truth slots, H, W the canvas.
"""

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data import sampler
from jaxmaskrcnn.data.augment.copy_paste import choose_pasted, paste
from jaxmaskrcnn.data.augment.mosaic import join_tiles
from jaxmaskrcnn.data.augment.plan import ImagePlan, SlotPlan
from jaxmaskrcnn.data.augment.scene import Scene, transform_scene
from jaxmaskrcnn.data.device_resize import gather_raw
from jaxmaskrcnn.data.fields.extra import EXTRA
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.semantic import SEMANTIC
from jaxmaskrcnn.data.fields.table import FIELDS
from jaxmaskrcnn.data.fields.targets import empty_targets, fill_targets, room_for
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.preprocess import resize_for
from jaxmaskrcnn.data.records.source import Example, Source
from jaxmaskrcnn.data.transforms import Geometry, round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Batch


class LoadBatch:
    """Loads the images (and objects) of a plan; picklable, so that it runs in any worker.

    Args:
        source: The data set.
        model: Gives how images are resized and whether masks are needed.
        objects: Ground-truth slots per image; None loads no targets.
        augmented: Whether the plans have augmentations.
        exact: Whether JPEG files are decoded at their full size, however small the network's input.
        raw: Whether images are only decoded, and resized on the device.

    Attributes:
        room: Room that an object needs in the targets, by field.
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
        lacking = [x.name for x in model.extra if (x.name, x.of, x.shape) not in source.extra]
        if objects is not None and lacking:
            raise UserError(
                f"{source.annotations} was prepared without the extra ground truth {lacking[0]!r}, which the "
                "model declares; prepare it with extra=config.extra."
            )
        self.room = room_for(source.largest_counts(), model, augmented=augmented)
        self._fields = (
            tuple(
                field.name
                for field in FIELDS
                if field.is_loaded(self.room[field.name], source.has_masks, augmented)
            )
            + ((SEMANTIC,) if self.room[SEMANTIC] else ())
            + ((EXTRA,) if model.extra else ())
        )

    def __call__(self, plan: sampler.StepPlan, whole: sampler.StepPlan | None = None) -> Batch:
        """NumPy arrays of one batch: [B, H, W, C] images, uint8 unless the kernel is "torch".

        Args:
            plan: The images to load.
            whole: The plan of the global batch that ``plan`` is a process's part of; None if ``plan`` is the
                global batch itself.
        """
        count = len(plan.index)
        dtype = np.float32 if self._model.input.resize_kernel == "torch" else np.uint8
        images = np.zeros((count, *plan.canvas, 0 if self._raw else self._model.input.pixels.channels), dtype)
        decoded: list[np.ndarray | None] = [None] * count
        original_sizes = np.ones((count, 2), np.int32)
        # A slot without an image gets the extent of one pixel, so that nothing divides by zero.
        image_sizes = np.ones((count, 2), np.int32)
        targets = None
        if self._objects is not None:
            targets = empty_targets(count, self._objects, plan.canvas, self.room, self._model.extra)
        for slot, index in enumerate(plan.index):
            if index < 0:
                continue
            if plan.augment:
                scene = self._scene(plan.augment[slot])
                size = scene.image.shape[:2]
                images[slot, : size[0], : size[1]] = scene.image
                original_sizes[slot], image_sizes[slot] = self._source.sizes[index], size
                if targets is not None:
                    fill_targets(targets, slot, scene.objects)
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
                fill_targets(targets, slot, self.objects(example, size, bool(plan.flip[slot])))
        return Batch(
            images=images,
            image_sizes=image_sizes,
            extents=np.minimum(round_up(image_sizes, self._model.input.pad_divisor), plan.canvas).astype(
                np.int32
            ),
            original_sizes=original_sizes,
            index=plan.index.astype(np.int32),
            valid=plan.index >= 0,
            targets=targets,
            raw=self._gather(decoded, plan.flip, plan if whole is None else whole) if self._raw else None,
        )

    def objects(self, example: Example, size: tuple[int, int], flip: bool) -> ImageObjects:
        """The objects of a record, resized to ``(height, width)`` and perhaps mirrored with its image."""
        objects = ImageObjects.read(example, self._fields)
        geometry = Geometry.resize(example.size, size, flip)
        return objects.transform(geometry, self._model).clip(size)

    def _gather(self, decoded: list[np.ndarray | None], flips: np.ndarray, whole: sampler.StepPlan):
        # Images that are decoded at reduced size are smaller than the sizes in the source.
        sizes = self._source.sizes[whole.index] if self._exact else None
        return gather_raw(decoded, flips, sizes, self._model.input.pixels.channels)

    def _scene(self, plan: SlotPlan) -> Scene:
        scene = self._transformed(plan.image)
        if plan.beside:
            scenes = [scene, *map(self._transformed, plan.beside)]
            scene = join_tiles(scenes, plan.places, plan.size, self._model)
        if plan.pasted is None:
            return scene
        other = self._transformed(plan.pasted)
        return paste(scene, other, choose_pasted(other.objects.crowd, plan.choice))

    def _transformed(self, plan: ImagePlan) -> Scene:
        example = self._source[plan.index]
        return transform_scene(
            self._pixels(example),
            example,
            plan.geometry,
            plan.distortion,
            self._model,
            self._fields,
            plan.pixels,
            plan.own,
        )

    def _pixels(self, example: Example, at_least: tuple[int, int] | None = None) -> np.ndarray:
        name = f"image {example.image_id} ({example.file_name}) of {self._source.annotations}"
        return decode_image(
            example.image,
            size=example.size,
            name=name,
            at_least=at_least,
            pixels=self._model.input.pixels,
        )
