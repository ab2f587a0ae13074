"""Mask R-CNN in JAX and Flax: train, evaluate and predict instance segmentation.

Example:
    >>> import jaxmaskrcnn as jmr
    >>> from flax import nnx
    >>> config = jmr.model_config("jaxmaskrcnn/shapes", num_classes=3)
    >>> model = jmr.MaskRCNN(config, rngs=nnx.Rngs(0))
"""

from jaxmaskrcnn import ops
from jaxmaskrcnn.config import ConfigError, ModelConfig
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.comparison import draw_comparison
from jaxmaskrcnn.inference.drawing import draw_detections
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.inference.test_time_augmentation import AugmentedPredictor
from jaxmaskrcnn.inference.tiles import TiledPredictor
from jaxmaskrcnn.model_io import load_model, save_model
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN, trainable
from jaxmaskrcnn.presets import backbone_info, list_backbones, list_models, model_config, model_info
from jaxmaskrcnn.structures import Batch, Category, Detections, LossTerm, Proposals, Targets

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
    "draw_comparison",
    "draw_detections",
    "list_backbones",
    "list_models",
    "load_backbone",
    "load_model",
    "make_batch",
    "model_config",
    "model_info",
    "ops",
    "save_model",
    "trainable",
]
