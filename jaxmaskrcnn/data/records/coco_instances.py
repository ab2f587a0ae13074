"""COCO-format instance segmentation as a TFDS data set, without TensorFlow.

`prepare.prepare` makes its records where they are not there yet, and opens them.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxmaskrcnn.config import DEFAULT_PIXELS, ExtraConfig, PixelConfig
from jaxmaskrcnn.data.coco.annotations import parse_annotations
from jaxmaskrcnn.data.coco.crowd import check_learnable, count_classes, most_frequent
from jaxmaskrcnn.data.coco.image_files import readable_images
from jaxmaskrcnn.data.coco.load import load_json, load_texts
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.packing import freed
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.fields.extra import EXTRA, ExtraOfJson
from jaxmaskrcnn.data.records.features import object_columns, record_features
from jaxmaskrcnn.data.records.shards import write_shards
from jaxmaskrcnn.data.records.source import SPLIT
from jaxmaskrcnn.errors import UserError

VERSION = "1.0.0"


@dataclasses.dataclass(eq=False, kw_only=True)
class CocoConfig(tfds.core.BuilderConfig):
    """One annotation file with its images.

    Attributes:
        annotations: COCO-format json.
        images: Folder that the json's file names are relative to.
        on_error: "stop" at the first problem, or "skip" unusable images and annotations.
        masks: Whether every object needs a segmentation.
        reading: What crowd regions are, and whether all objects get one class.
        allow_empty: Whether a data set without any object is accepted.
        pixels: Which page of a file is read, and how its values become uint8.
        extra: Extra ground truth that is read of the json.
    """

    annotations: str = ""
    images: str = ""
    on_error: str = "stop"
    masks: bool = True
    keypoints: bool = False
    reading: Reading = Reading()
    allow_empty: bool = False
    pixels: PixelConfig = DEFAULT_PIXELS
    extra: tuple[ExtraConfig, ...] = ()


class _LocalInfo(tfds.core.DatasetInfo):
    """Does not look the data set up in TFDS' public bucket, which would leave a temporary folder behind."""

    def initialize_from_bucket(self) -> None:
        pass


class CocoInstances(tfds.core.GeneratorBasedBuilder):
    """TFDS builder for any COCO-format json and image folder.

    Image files are stored byte by byte; masks as compressed RLE, with the polygons they were made
    of as json text beside them. Labels run from 0 without holes, in ascending order of category id.

    Example:
        >>> config = CocoConfig(name="mine", annotations="train.json", images="train")
        >>> builder = CocoInstances(  # doctest: +SKIP
        ...     config=config, data_dir="cache", file_format="array_record"
        ... )
        >>> builder.download_and_prepare()  # doctest: +SKIP
        >>> decoders = {"image": tfds.decode.SkipDecoding()}
        >>> source = builder.as_data_source("data", decoders=decoders)  # doctest: +SKIP
    """

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS: list = []
    # TFDS would find this path through a package that it needs and does not declare.
    code_path = tfds.core.Path(__file__)

    def __init__(self, **kwargs):
        self._parsed = None
        super().__init__(**kwargs)

    @property
    def _config(self) -> CocoConfig:
        assert isinstance(self.builder_config, CocoConfig)
        return self.builder_config

    def parse(self):
        """The checked annotations; read once, and only when records are written."""
        if self._parsed is None:
            config = self._config
            path, images_dir = Path(config.annotations), Path(config.images)
            problems = Problems(config.on_error)
            content = load_texts(path)
            annotations = parse_annotations(
                content, path, images_dir, problems, masks=config.masks, keypoints=config.keypoints,
                reading=config.reading, consume=freed,
            )  # fmt: skip
            if annotations.images and not config.allow_empty:
                counts = count_classes(annotations.categories, annotations.images)
                check_learnable(
                    counts, annotations.images, os.fspath(path), annotations.left_out, masks=config.masks
                )
            self._parsed = annotations, problems
        return self._parsed

    def _info(self) -> tfds.core.DatasetInfo:
        annotations, _ = self.parse()
        return _LocalInfo(
            builder=self,
            description="Instance segmentation in COCO format.",
            # Keys would be hashed and the records shuffled; in the order of image ids they stay
            # aligned with the arrays written beside them.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                category_ids=[category.id for category in annotations.categories],
                category_names=[category.name for category in annotations.categories],
            ),
            features=record_features(annotations.panoptic is not None, bool(self._config.extra)),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {SPLIT: self._generate_examples()}

    def _generate_splits(self, dl_manager, download_config):
        """Takes the place of TFDS' own method, which needs TensorFlow for more than a gigabyte."""
        del dl_manager, download_config
        template, features = self._get_filename_template(split_name=SPLIT), self.info.features
        assert features is not None
        return [write_shards(self._generate_examples(), SPLIT, features, template, self._example_writer())]

    def _generate_examples(self):
        annotations, problems = self.parse()
        self.written: list[AnnotatedImage] = []
        config = self._config
        images, panoptic = annotations.images, annotations.panoptic
        extra = None
        if config.extra:  # read once more, as the entries of the annotations are freed
            path = Path(config.annotations)
            extra = ExtraOfJson(load_json(path), path, config.extra, (whole_number, annotations.image_id))
        keys = {} if panoptic is None else {annotations.image_id(key): key for key in panoptic.images}
        for image, data in readable_images(
            images, config.annotations, Path(config.images), problems, pixels=config.pixels
        ):
            self.written.append(image)
            labels: dict[str, Any] = {}
            if panoptic is not None:
                labels = {"semantic": panoptic.semantic(keys[image.id]).encode()}
            if extra is not None:
                objects = [(x.id, x.crowd) for x in (*image.objects, *image.ignored)]
                labels[EXTRA] = extra.of_image(image.id, objects).encode()
            yield (
                image.id,
                {
                    **labels,
                    "image": data,
                    "image/id": image.id,
                    "image/filename": image.file_name,
                    "image/height": image.height,
                    "image/width": image.width,
                    "objects": object_columns([*image.objects, *image.ignored]),
                },
            )
        problems.tell_rest()
        left_out = {**annotations.left_out, **problems.skipped}
        if not self.written:
            why = f" ({most_frequent(left_out)})" if left_out else ""
            raise UserError(
                f"{config.annotations} leaves no usable image{why}; correct the file or the "
                f"image folder ({config.images})."
            )
        if not config.allow_empty:
            counts = count_classes(annotations.categories, self.written)
            check_learnable(counts, self.written, config.annotations, left_out, masks=config.masks)
