"""The names that a checkpoint's pickle may mention.

Each maps to a function of this library that makes a stand-in, or to None if checkpoints mention it
but never call it. The named modules are never imported or run. The list contains:

* what arrays and tensors are made of (NumPy's and torch's reconstruction functions);
* Python's containers and plain values;
* modules of a whole model of torchvision, whose attributes are kept (`whole_models.py`);
* objects that training frameworks store beside the weights: a run's arguments, configurations, the
  history of its losses. Only their description is kept (`Inert`), or their items if they are
  dictionaries.

Sources: torch/_utils.py and torch/_weights_only_unpickler.py (names and signatures of tensors),
torchvision's references/detection/train.py ("args"), mmengine/runner/runner.py and
mmengine/logging (what MMDetection's files hold), pytorch_lightning's checkpoint connector.
"""

from collections.abc import Callable
from typing import Any

from jaxmaskrcnn.convert.files.described_arrays import (
    OTHER_DTYPES,
    STORAGES,
    TORCH_DTYPES,
    Tensor,
)
from jaxmaskrcnn.convert.files.foreign import Foreign, foreign_class
from jaxmaskrcnn.convert.files.whole_models import DESCRIBED
from jaxmaskrcnn.utils.pickles.numpy_arrays import numpy_calls
from jaxmaskrcnn.utils.pickles.stand_ins import Budget, Dictionary, Missing, Name, Opaque, Refused, as_key

# Tensors that are not plain dense arrays.
_OTHER_TENSORS = {
    "torch._utils._rebuild_qtensor": "is a quantised tensor",
    "torch._utils._rebuild_sparse_tensor": "is a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "is a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "is a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "is a tensor without numbers (device meta)",
    "torch._utils._rebuild_wrapper_subclass": "is a tensor of a special class",
}

# Classes whose description is kept.
_OPAQUE = (
    "builtins.complex", "builtins.object", "builtins.range", "builtins.slice",
    "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone",
    *(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local")
      for kind in ("", "Posix", "Windows", "PurePosix", "PureWindows")),
    "mmcv.utils.config.Config", "mmengine.config.config.Config",
    "mmengine.logging.history_buffer.HistoryBuffer", "mmengine.logging.message_hub.MessageHub",
    "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Enum", "Float", "Integer", "String")),
    "torch.device",
)  # fmt: skip

# Classes that only have attributes, and classes that are dictionaries.
_NAMESPACES = ("argparse.Namespace", "types.SimpleNamespace")
_DICTIONARIES = (
    "collections.Counter", "collections.OrderedDict", "addict.addict.Dict", "easydict.EasyDict",
    "detectron2.config.config.CfgNode", "fvcore.common.config.CfgNode", "yacs.config.CfgNode",
    "mmcv.utils.config.ConfigDict", "mmengine.config.config.ConfigDict",
    "lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)  # fmt: skip

_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"

# Mentioned as values, never called.
_MENTIONED = (
    *(f"{_HISTORY}.{method}" for method in ("min", "max", "current", "mean")),
    *(f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "str", "tuple", "Ellipsis")),
    "numpy.ndarray",
    *(f"numpy.{kind}" for kind in ("bool", "bool_", "float16", "float32", "float64", "int32", "int64")),
    "numpy.uint8",
    *(f"torch.{dtype}" for dtype in (*TORCH_DTYPES, *OTHER_DTYPES)),
    "torch.strided", "torch.contiguous_format", "torch.preserve_format", "torch.channels_last",
    "torch.per_tensor_affine", "torch.per_channel_affine", "torch.Tensor",
    "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "typing.Any",
    *(f"{package}.callbacks.{callback}" for package in ("pytorch_lightning", "lightning.pytorch")
      for callback in ("early_stopping.EarlyStopping", "model_checkpoint.ModelCheckpoint")),
)  # fmt: skip

# Of whole models that are refused.
_MODULES = ("torch.nn.backends.", "detectron2.modeling.", "mmdet.models.", "timm.models.")


def allowed_names(budget: Budget, big_endian: bool = False) -> Callable[[str], Name]:
    """Return the function that looks up names for `unpickle`.

    Args:
        budget: The file's budget.
        big_endian: Whether its tensors are big-endian.

    Returns:
        A function from a name such as "collections.OrderedDict" to its stand-in; it raises
        `Refused` for every name that is not listed here, `Foreign` for those of another kind of model.
    """

    def copied(kind: Callable, items: Any = ()) -> Any:
        budget.spend(100 * len(items))
        return kind(items)

    def as_set(items: Any = ()) -> set:
        return set(map(as_key, copied(list, items)))

    def as_dictionary(items: Any = ()) -> Dictionary:
        result = Dictionary()
        for key, value in copied(list, items.items() if isinstance(items, dict) else items):
            result[as_key(key)] = value
        return result

    def tensor(storage, offset, shape, strides, *others) -> Tensor:
        return Tensor(storage, offset, shape, strides, big_endian=big_endian)

    def tensor_with_dtype(storage, offset, shape, strides, grad, hooks, dtype, *others) -> Tensor:
        name = dtype.name.removeprefix("torch.")
        return Tensor(storage, offset, shape, strides, name, big_endian)

    def tensor_of_class(function: Name, kind: Name, arguments: tuple, state: Any) -> Any:
        if function.call is None:
            raise Refused(f"{function.name} is called, which a checkpoint only mentions")
        return function.call(*arguments)

    # Protocol 2 writes a method in this way; it has to be listed like any other name.
    def attribute(kind: Name, name: str) -> Name:
        if not isinstance(kind, Name) or not isinstance(name, str):
            raise Refused("it takes an attribute of something that is not a class")
        return find(f"{kind.name}.{name}")

    calls = {
        **numpy_calls(budget),
        "builtins.getattr": attribute,
        "builtins.set": as_set,
        "builtins.frozenset": as_set,
        "collections.defaultdict": lambda kind=None, items=(): as_dictionary(items),
        "collections.deque": lambda items=(), length=None: copied(list, items),
        "copyreg._reconstructor": lambda kind, base, state: kind.call(),
        "torch.Size": lambda items=(): copied(tuple, items),
        "torch.serialization._get_layout": lambda name: name,
        "torch.torch_version.TorchVersion": lambda text: text,
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": tensor_with_dtype,
        "torch._utils._rebuild_parameter": lambda data, *others: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *others: data,
        "torch._utils._rebuild_device_tensor_from_numpy": lambda data, *others: data,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda data, *others: data,
        "torch._tensor._rebuild_from_type_v2": tensor_of_class,
    }
    names = {name: Name(name, call) for name, call in calls.items()}
    names |= {name: Name(name) for name in (*_MENTIONED, *STORAGES)}
    names |= {name: Name(name, as_dictionary) for name in _DICTIONARIES}
    names |= {name: Name(name, _describing(name, name in _NAMESPACES)) for name in (*_OPAQUE, *_NAMESPACES)}
    names |= {name: Name(name, _missing(reason)) for name, reason in _OTHER_TENSORS.items()}

    def find(name: str) -> Name:
        if name in names:
            return names[name]
        if problem := foreign_class(name):
            raise Foreign(problem)
        if name.startswith(DESCRIBED):
            return Name(name, _describing(name, as_dict=False))
        if name.startswith(_MODULES):
            raise Refused(
                f"it holds a whole model (its pickle names {name}) instead of only its parameters, "
                "and nothing in it was run",
                remedy='import torch; m = torch.load("{path}", map_location="cpu", weights_only=False); '
                'torch.save((m["model"] if isinstance(m, dict) else m).state_dict(), "weights.pth")',
            )
        raise Refused(
            f"its pickle names {name}, which is not part of a plain checkpoint, and nothing in it was run"
        )

    return find


def _describing(name: str, as_dict: bool) -> Callable[..., Opaque]:
    return lambda *arguments: Opaque(name, arguments, as_dict)


def _missing(reason: str) -> Callable[..., Missing]:
    return lambda *arguments: Missing(reason)
