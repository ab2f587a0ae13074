"""The epsilon of a backbone's norm layers, which arrays only hint at."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.library import Library
from jaxmaskrcnn.convert.structure import backbone_names
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.tables import Table

ORDINARY_EPSILON = 1e-5  # of batch norm in all three libraries


def with_epsilon(config: ModelConfig, bn_eps: float) -> ModelConfig:
    """Return the configuration with this epsilon in the backbone's norm layers.

    Raises:
        UserError: The epsilon is negative or not finite.
    """
    if not (math.isfinite(bn_eps) and bn_eps >= 0):
        raise UserError(f"bn_eps is {bn_eps}; give a small number of at least 0, such as 1e-5.")
    return config.replace({"backbone.norm_epsilon": float(bn_eps)})


def backbone_norms(
    library: Library, arrays: Mapping[str, np.ndarray], structure: Mapping[str, Any]
) -> tuple[bool, list[np.ndarray]]:
    """Return whether the backbone's batch norm counts batches (frozen layers do not), and its variances."""
    table = Table.of([backbone_names(library.name, structure)])
    counted, variances = False, []
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        if kind in ("num_batches_tracked", "running_var"):
            if table.translate(f"{layer}.weight") is not None:
                counted |= kind == "num_batches_tracked"
                variances += [array] if kind == "running_var" else []
    return counted, variances


def found_epsilon(
    config: ModelConfig, bn_eps: float | None, counted: bool, variances: list[np.ndarray], path: str
) -> tuple[ModelConfig, str]:
    """Set the epsilon that the weights were trained with, and explain it in a sentence."""
    if bn_eps is not None:
        epsilon, why = with_epsilon(config, bn_eps).backbone.norm_epsilon, "as given by bn_eps"
    elif config.backbone.norm_epsilon:
        epsilon, why = config.backbone.norm_epsilon, "as in the model"
        if config.background == "first" and config.backbone.norm == "frozen_bn" and not counted:
            why += " (torchvision's COCO_V1 weights and models fine-tuned from them use 0)"
    elif config.background == "last":
        epsilon, why = 0.0, "as in the model"
    elif counted:
        epsilon = ORDINARY_EPSILON
        why = "because num_batches_tracked implies that the model had ordinary batch norm"
    elif any((x == 0).any() for x in variances):
        epsilon, why = ORDINARY_EPSILON, "because some channels have variance 0"
    else:
        epsilon = 0.0
        why = (
            "as in the COCO_V1 weights and models fine-tuned from them (for a model trained from ImageNet "
            "weights alone, give bn_eps=1e-5, --bn_eps=1e-5)"
        )
    if epsilon == 0 and any((x <= 0).any() for x in variances):
        raise UserError(
            f"{path} has channels of variance 0, so a model with a norm epsilon of 0 would divide by zero; "
            "give bn_eps=1e-5 (--bn_eps=1e-5)."
        )
    note = f"The epsilon of the backbone's norm layers is {epsilon:g}, {why}."
    return with_epsilon(config, epsilon), note
