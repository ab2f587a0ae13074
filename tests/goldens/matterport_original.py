r"""matterport's Mask R-CNN 2.1 run under TensorFlow 2, for the scripts that record what it returns.

Its code was written for TensorFlow 1 and the Keras of then. It is imported from the wheel ``mrcnn-colab``
2.1.0, with the names that TensorFlow 2 calls otherwise replaced while it is imported; what it computes stays
as it is. Besides, the shapes that its layers' ``compute_output_shape`` told the older Keras are given to the
arrays themselves, and the number of boxes in ``Reshape`` is left open (matterport/Mask_RCNN#1274).

The environment (Python 3.11):

    python -m venv matterport-venv && . matterport-venv/bin/activate
    pip install tensorflow-cpu==2.15.1 numpy==1.26.4 h5py==3.16.0 scikit-image==0.26.0 scipy==1.17.1 \
        setuptools
    pip install --no-deps mrcnn-colab==2.1.0
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

PACKAGES = ("mrcnn-colab", "tensorflow-cpu", "keras", "numpy", "scikit-image", "scipy", "h5py")
VERSIONS = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)

# Names of TensorFlow 1, Keras 2.0 and NumPy 1.19, with today's.
NAMES = {
    r"^import keras\.engine as KE$": "import keras.layers as KE",
    r"\btf\.log\b": "tf.math.log",
    r"\btf\.random_shuffle\b": "tf.random.shuffle",
    r"\btf\.sets\.set_intersection\b": "tf.sets.intersection",
    r"\btf\.sparse_tensor_to_dense\b": "tf.sparse.to_dense",
    r"\btf\.to_float\(": "tf.compat.v1.to_float(",
    r"\bnp\.bool\b": "bool",
    r"tf\.range\(probs\.shape\[0\]\)": "tf.range(tf.shape(probs)[0])",
    r"KL\.Reshape\(\(s\[1\], ": "KL.Reshape((-1, ",
    r"\bsuper\(self\.__class__, self\)": "super(BatchNorm, self)",
}


def import_original() -> tuple[types.ModuleType, ...]:
    """Import the modules of the wheel with the names of `NAMES` replaced, from a temporary folder.

    (TensorFlow reads the source of the functions that it turns into graphs, so it has to be in files.)
    """
    folder = tempfile.mkdtemp()
    package = os.path.dirname(importlib.util.find_spec("mrcnn").origin)
    shutil.copytree(package, os.path.join(folder, "mrcnn"))
    for name in ("utils", "model"):
        path = os.path.join(folder, "mrcnn", f"{name}.py")
        with open(path, encoding="utf-8") as file:
            source = file.read()
        for old, new in NAMES.items():
            source = re.sub(old, new, source, flags=re.M)
        with open(path, "w", encoding="utf-8") as file:
            file.write(source)
    sys.modules.pop("mrcnn", None)
    sys.path.insert(0, folder)
    names = ("mrcnn.config", "mrcnn.utils", "mrcnn.model")
    return tuple(importlib.import_module(name) for name in names)


mrcnn_config, utils, modellib = import_original()
Config = mrcnn_config.Config


def with_shape(layer: type, shape) -> None:
    """Give the result of a layer the shape that the older Keras took from its ``compute_output_shape``."""
    call = layer.call

    def shaped(self, inputs):
        result = call(self, inputs)
        result.set_shape(shape(self, inputs))
        return result

    layer.call = shaped


with_shape(modellib.ProposalLayer, lambda self, inputs: [None, self.proposal_count, 4])
with_shape(
    modellib.PyramidROIAlign,
    lambda self, inputs: [None, inputs[0].shape[1], *self.pool_shape, inputs[2].shape[-1]],
)


def make_config(**fields) -> Config:
    """An instance of a subclass of the original's Config with these fields."""
    return type("Configuration", (Config,), {"NAME": "golden", "IMAGES_PER_GPU": 1, **fields})()


def make_model(config: Config, weight, log_dir: str):
    """The original's model for prediction, with a weight for each name."""
    tf.keras.backend.clear_session()
    model = modellib.MaskRCNN(mode="inference", config=config, model_dir=log_dir)
    names = {}
    for layer in model.keras_model.layers:
        if layer.weights:
            found = {short_name(w.name): w.shape.as_list() for w in layer.weights}
            layer.set_weights([weight(name, tuple(shape)) for name, shape in found.items()])
            names |= found
    return model, names


def short_name(name: str) -> str:
    """The layer and the kind of an array, "conv1/kernel", of its name in the graph or in a file."""
    return "/".join(name.removesuffix(":0").split("/")[-2:])


def outputs(model, images, names) -> dict[str, np.ndarray]:
    """What layers put out for the original's own inputs of these images, by the layers' names."""
    molded, metas, windows = model.mold_inputs(images)
    anchors = model.get_anchors(molded[0].shape)
    anchors = np.broadcast_to(anchors, (len(images), *anchors.shape))
    keras_model = model.keras_model
    part = tf.keras.Model(keras_model.inputs, [keras_model.get_layer(name).output for name in names])
    found = part.predict([molded, metas, anchors], verbose=0)
    found = found if len(names) > 1 else [found]
    return {
        "molded": molded,
        "windows": windows,
        "anchors": anchors[0],
        **dict(zip(names, found, strict=True)),
    }
