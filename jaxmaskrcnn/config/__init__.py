"""All settings: the model's architecture and conventions, and a training run.

A `ModelConfig` is a tree of frozen parts; a `Config` is a run. Settings have dotted paths everywhere:
``config.replace({"rpn.post_nms_test": 500})``, ``--config.model.rpn.post_nms_test=500``. Nothing here
imports JAX.
"""

from jaxmaskrcnn.config.backbones import BackboneConfig, Level, RegNetConfig, ResNetConfig
from jaxmaskrcnn.config.carafe import CarafeConfig, CarafeFPNConfig
from jaxmaskrcnn.config.class_scores import SCORES, ClassLossConfig, ScoresKind
from jaxmaskrcnn.config.convnext import ConvNeXtConfig
from jaxmaskrcnn.config.deep_resnets import DeepResNetConfig, Res2NetConfig, ResNeStConfig
from jaxmaskrcnn.config.extractors import ExtractorConfig
from jaxmaskrcnn.config.groie import GRoIEConfig
from jaxmaskrcnn.config.heads import (
    BoxConfig,
    BoxHeadLossConfig,
    BoxLossConfig,
    BoxStageConfig,
    Classes,
    FederatedConfig,
    MaskConfig,
    MaskHeadConfig,
    PoolConfig,
    RegionConfig,
    Res5Config,
    TrunkConfig,
)
from jaxmaskrcnn.config.hrnet import HRFPNConfig, HRNetConfig
from jaxmaskrcnn.config.inputs import (
    DEFAULT_PIXELS,
    ComputeConfig,
    DetectionConfig,
    InputConfig,
    PixelConfig,
)
from jaxmaskrcnn.config.keypoints import KeypointConfig
from jaxmaskrcnn.config.losses import MaskLossConfig
from jaxmaskrcnn.config.mask_scoring import MaskScoringConfig
from jaxmaskrcnn.config.model import ModelConfig
from jaxmaskrcnn.config.mvit import MViTConfig
from jaxmaskrcnn.config.necks import FPNConfig, NeckConfig, PAFPNConfig
from jaxmaskrcnn.config.own import ExtraConfig, HeadConfig
from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.point_rend import PointRendConfig
from jaxmaskrcnn.config.rpn import AnchorConfig, RPNConfig, RPNLossConfig
from jaxmaskrcnn.config.run import (
    Config,
    DataConfig,
    ModelSection,
    OptimizerConfig,
    ShapesConfig,
    TrainConfig,
)
from jaxmaskrcnn.config.semantic import SemanticConfig
from jaxmaskrcnn.config.swin import SwinConfig
from jaxmaskrcnn.config.upsampling import UpsampleConfig
from jaxmaskrcnn.config.values import ConfigError
from jaxmaskrcnn.config.vit import SimplePyramidConfig, ViTConfig

__all__ = [
    "DEFAULT_PIXELS",
    "SCORES",
    "AnchorConfig",
    "BackboneConfig",
    "BoxConfig",
    "BoxHeadLossConfig",
    "BoxLossConfig",
    "BoxStageConfig",
    "CarafeConfig",
    "CarafeFPNConfig",
    "ClassLossConfig",
    "Classes",
    "ComputeConfig",
    "Config",
    "ConfigError",
    "ConvNeXtConfig",
    "DataConfig",
    "DeepResNetConfig",
    "DetectionConfig",
    "ExtraConfig",
    "ExtractorConfig",
    "FPNConfig",
    "FederatedConfig",
    "GRoIEConfig",
    "HRFPNConfig",
    "HRNetConfig",
    "HeadConfig",
    "InputConfig",
    "KeypointConfig",
    "Level",
    "MViTConfig",
    "MaskConfig",
    "MaskHeadConfig",
    "MaskLossConfig",
    "MaskScoringConfig",
    "ModelConfig",
    "ModelSection",
    "NeckConfig",
    "OptimizerConfig",
    "PAFPNConfig",
    "Part",
    "PixelConfig",
    "PointRendConfig",
    "PoolConfig",
    "RPNConfig",
    "RPNLossConfig",
    "RegNetConfig",
    "RegionConfig",
    "Res2NetConfig",
    "Res5Config",
    "ResNeStConfig",
    "ResNetConfig",
    "ScoresKind",
    "SemanticConfig",
    "ShapesConfig",
    "SimplePyramidConfig",
    "SwinConfig",
    "TrainConfig",
    "TrunkConfig",
    "UpsampleConfig",
    "ViTConfig",
]
