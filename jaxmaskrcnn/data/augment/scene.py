"""An augmented image with its objects.

Shape legend: H, W the record's image; h, w the result; G objects.
"""

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.augment.geometry import transform_image
from jaxmaskrcnn.data.augment.own import OwnTransform
from jaxmaskrcnn.data.augment.photometric import Distortion
from jaxmaskrcnn.data.augment.pixels import PixelChange
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.transforms import Geometry


class Scene(NamedTuple):
    """An image and its objects.

    Attributes:
        image: [h, w, 3], as ``resize_for`` returns it.
        objects: The objects, in pixels of that image.
    """

    image: np.ndarray
    objects: ImageObjects


def transform_scene(
    image: np.ndarray,
    example,
    geometry: Geometry,
    distortion: Distortion | None,
    model: ModelConfig,
    fields: Collection[str],
    pixels: PixelChange | None = None,
    own: OwnTransform | None = None,
) -> Scene:
    """Transforms an image and its objects; objects of which nothing remains are dropped.

    Args:
        image: uint8 RGB [H, W, 3], the record's.
        example: The record.
        geometry: The transforms.
        distortion: Distortion of the colours, or None.
        model: Gives how images are resized, and which keypoints change places in a mirrored image.
        fields: Names of the fields to read from the record.
        pixels: Change of brightness, sharpness and noise, or None.
        own: A transform of the user's and the seed of its draws, which comes first; or None.
    """
    objects = ImageObjects.read(example, fields)
    if own is not None:
        image, objects = own(image, objects)
    # Cropping can make an object smaller than its annotated area.
    objects = dataclasses.replace(objects, areas=None).transform(geometry, model)
    return Scene(
        image=transform_image(image, geometry, distortion, model, pixels),
        objects=objects.clip(geometry.result, turned=bool(geometry.angle)),
    )
