"""Import mmpretrain's ConvNeXt alone, as a backbone of MMDetection.

mmpretrain's packages import what its other models and its tools need; these stand-ins for them have nothing
but the files of the ConvNeXt.
"""

import importlib.util
import sys
import types
from pathlib import Path

ROOT = Path(importlib.util.find_spec("mmpretrain").origin).parent
for name in ("", ".models", ".models.backbones", ".models.utils"):
    package = types.ModuleType(f"mmpretrain{name}")
    package.__path__ = [str(ROOT.joinpath(*name.split(".")[1:]))]
    sys.modules[package.__name__] = package
norm = importlib.import_module("mmpretrain.models.utils.norm")
for part in ("GRN", "build_norm_layer"):
    setattr(sys.modules["mmpretrain.models.utils"], part, getattr(norm, part))
ConvNeXt = importlib.import_module("mmpretrain.models.backbones.convnext").ConvNeXt
