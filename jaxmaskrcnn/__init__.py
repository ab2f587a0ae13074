"""Mask R-CNN in JAX and Flax: train, evaluate and predict instance segmentation.

Example:
    >>> import jaxmaskrcnn as jmr
    >>> from flax import nnx
    >>> config = jmr.model_config("jaxmaskrcnn/shapes", num_classes=3)
    >>> model = jmr.MaskRCNN(config, rngs=nnx.Rngs(0))  # doctest: +SKIP
    >>> config.num_classes, config.foreground_offset
    (3, 0)
"""

from typing import TYPE_CHECKING

from jaxmaskrcnn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from jaxmaskrcnn import ops
    from jaxmaskrcnn.checkpoints.directory import load_model, save_model
    from jaxmaskrcnn.config.model import ModelConfig
    from jaxmaskrcnn.config.values import ConfigError
    from jaxmaskrcnn.convert.backbone import load_backbone
    from jaxmaskrcnn.data.preprocess import make_batch
    from jaxmaskrcnn.errors import UserError
    from jaxmaskrcnn.inference.augmentation import AugmentedPredictor
    from jaxmaskrcnn.inference.predictor import Predictor
    from jaxmaskrcnn.inference.serving import load_serving, serving_function
    from jaxmaskrcnn.inference.tiles import TiledPredictor
    from jaxmaskrcnn.models.freezing import trainable
    from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
    from jaxmaskrcnn.structures import Batch, Category, Detections, LossTerm, Proposals, Targets
    from jaxmaskrcnn.visualize.comparison import draw_comparison
    from jaxmaskrcnn.visualize.drawing import draw_detections
    from jaxmaskrcnn.weights.locate import download
    from jaxmaskrcnn.zoo.lookup import backbone_info, list_backbones, list_models, model_config, model_info

__version__ = "0.1.0"

__all__ = [
    "AugmentedPredictor",
    "Batch",
    "Category",
    "ConfigError",
    "Detections",
    "LossTerm",
    "MaskRCNN",
    "ModelConfig",
    "Predictor",
    "Proposals",
    "Targets",
    "TiledPredictor",
    "UserError",
    "backbone_info",
    "download",
    "draw_comparison",
    "draw_detections",
    "list_backbones",
    "list_models",
    "load_backbone",
    "load_model",
    "load_serving",
    "make_batch",
    "model_config",
    "model_info",
    "ops",
    "save_model",
    "serving_function",
    "trainable",
]

# Imported when used: importing JAX, Flax and Orbax takes seconds, which `jaxmaskrcnn --help` avoids.
_HOMES = {
    "AugmentedPredictor": "inference.augmentation",
    "Batch": "structures",
    "Category": "structures",
    "ConfigError": "config.values",
    "Detections": "structures",
    "LossTerm": "structures",
    "MaskRCNN": "models.mask_rcnn",
    "ModelConfig": "config.model",
    "Predictor": "inference.predictor",
    "Proposals": "structures",
    "Targets": "structures",
    "TiledPredictor": "inference.tiles",
    "UserError": "errors",
    "backbone_info": "zoo.lookup",
    "download": "weights.locate",
    "draw_comparison": "visualize.comparison",
    "draw_detections": "visualize.drawing",
    "list_backbones": "zoo.lookup",
    "list_models": "zoo.lookup",
    "load_backbone": "convert.backbone",
    "load_model": "checkpoints.directory",
    "load_serving": "inference.serving",
    "make_batch": "data.preprocess",
    "model_config": "zoo.lookup",
    "model_info": "zoo.lookup",
    "save_model": "checkpoints.directory",
    "serving_function": "inference.serving",
    "trainable": "models.freezing",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
