"""Read and write the weights of a Keras model in an HDF5 file, as matterport's Mask R-CNN saves them.

    attribute "layer_names"     the layers in order
    group LAYER                 of each layer, with the attribute "weight_names"
    dataset LAYER/NAME          of each array, such as "conv1/conv1/kernel:0"

A file of a whole model has all this in the group "model_weights". Layers within a layer have names of their
own, as in "rpn_model/rpn_conv_shared/kernel:0". The arrays' names here are the last layer's and the array's,
"conv1/kernel" and "rpn_conv_shared/kernel".

``h5py`` reads the format. It is not among the requirements, as only these files need it.
"""

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.pickles.stand_ins import Budget

MAGIC = b"\x89HDF\r\n\x1a\n"
_WHOLE_MODEL = "model_weights"
_NESTED = {name: "rpn_model" for name in ("rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred")}


def import_h5py(path: str) -> Any:
    """Import h5py.

    Args:
        path: The file that needs it, for the message.

    Raises:
        UserError: It is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"{path} is an HDF5 file, which needs the package h5py; run pip install 'jaxmaskrcnn[keras]'."
        ) from None
    return h5py


def read_keras(path: str, data: bytes, budget: Budget) -> dict[str, np.ndarray]:
    """Read the arrays of a Keras model.

    Args:
        path: The file, for messages.
        data: Its bytes.
        budget: Limits what compressed arrays may expand to.

    Returns:
        Arrays by layer and kind, such as "conv1/kernel".

    Raises:
        UserError: h5py is not installed.
        ValueError: Two arrays have one name, or an array is not in the file itself.
    """
    h5py = import_h5py(path)
    arrays: dict[str, np.ndarray] = {}

    def read(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            raise ValueError(f"the array {name!r} is in another file")
        short = "/".join(name.removesuffix(":0").split("/")[-2:])
        if short in arrays:
            raise ValueError(f"it has {short!r} twice")
        budget.spend(item.size * item.dtype.itemsize)
        arrays[short] = item[()]

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            weights = file[_WHOLE_MODEL] if _WHOLE_MODEL in file else file
            weights.visititems(read)  # does not follow links to other files
    except OSError as error:
        raise ValueError(str(error)) from None  # of the bytes, as nothing else is read
    return arrays


def write_keras(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays of matterport's Mask R-CNN, so that its ``load_weights`` reads them.

    Args:
        file: Open for writing.
        arrays: Arrays by layer and kind, with layers in the model's order.

    Raises:
        UserError: h5py is not installed.
    """
    h5py = import_h5py("the file")
    layers: dict[str, list[str]] = {}
    for name in arrays:
        layer = name.split("/")[0]
        layers.setdefault(_NESTED.get(layer, layer), []).append(name)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as target:
        # Of fixed length, as older releases of Keras expect them.
        target.attrs["layer_names"] = np.array(list(layers), "S")
        target.attrs["backend"] = np.bytes_("tensorflow")
        for layer, names in layers.items():
            group = target.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{name}:0" for name in names], "S")
            for name in names:
                group.create_dataset(f"{name}:0", data=arrays[name])
    file.write(buffer.getbuffer())
