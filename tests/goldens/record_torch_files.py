"""Record small checkpoints as torch and safetensors write them.

Usage: python tests/goldens/record_torch_files.py    (needs torch and safetensors; the tests do not)

The numbers are small enough to be exact in every dtype; `EXPECTED` says what a reader has to find.
"""

import argparse
import collections
import datetime
import pathlib
import pickle
import sys
import types

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "torch_files"

_GRID = np.arange(24, dtype=np.float32).reshape(4, 6) / 8 - 1

# name: the values, and the torch dtype
EXPECTED = {
    "conv.weight": (np.arange(48, dtype=np.float32).reshape(4, 3, 2, 2) / 8 - 3, "float32"),
    "transposed": (_GRID.T, "float32"),
    "every_other": (_GRID[::2, 1::3], "float32"),
    "row": (_GRID[2], "float32"),
    "repeated": (np.broadcast_to(_GRID[:1, :2], (3, 2)), "float32"),
    "channels_last": (np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4), "float32"),
    "bn.num_batches_tracked": (np.array(12345678901), "int64"),
    "empty": (np.zeros((0, 3), np.float32), "float32"),
    "bfloat16": (np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5, "bfloat16"),
    "float16": (np.arange(5, dtype=np.float32) / 4, "float16"),
    "float64": (np.array([0.1, -1e300]), "float64"),
    "int32": (np.array([-7, 2**31 - 1]), "int32"),
    "int16": (np.array([-300]), "int16"),
    "int8": (np.array([-128, 127]), "int8"),
    "uint8": (np.array([0, 255]), "uint8"),
    "bool": (np.array([True, False, True]), "bool"),
    "special": (np.array([np.nan, np.inf, -0.0, 1e-45], np.float32), "float32"),
    "parameter": (np.array([1.5, -2.5], np.float32), "float32"),
    "alias_of_parameter": (np.array([1.5, -2.5], np.float32), "float32"),
}


def state_dict(torch):
    state = collections.OrderedDict()
    # One storage behind several tensors.
    shared = torch.from_numpy(np.concatenate([[9, 9, 9], _GRID.reshape(-1)]).astype(np.float32))[3:].view(
        4, 6
    )
    parameter = torch.nn.Parameter(torch.tensor([1.5, -2.5]))
    made = {
        "transposed": shared.T,
        "every_other": shared[::2, 1::3],
        "row": shared[2],
        "repeated": shared[:1, :2].expand(3, 2),
        "parameter": parameter,
        "alias_of_parameter": parameter,
    }
    for name, (values, dtype) in EXPECTED.items():
        tensor = made.get(name)
        if tensor is None:
            tensor = torch.from_numpy(np.array(values)).to(getattr(torch, dtype))
        if name == "channels_last":
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        state[name] = tensor
    state._metadata = collections.OrderedDict({"": {"version": 1}, "bn": {"version": 2}})
    return state


def training_run(torch):
    """What torchvision's training script saves, and more that is found beside weights."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.fill_(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [16, 16, 22])
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "args": argparse.Namespace(dataset="coco", lr=0.02, output=pathlib.PurePosixPath("/runs/a")),
        "epoch": 3,
        "model_ema": {"n_averaged": torch.tensor(5), "module.0.weight": torch.full((2, 2), 0.25)},
        "best": np.float64(0.375),
        "time": datetime.datetime(2024, 2, 29, 12, 30),
        "counts": collections.defaultdict(list, {"a": [1, 2]}),
        "versions": [torch.__version__, torch.float32, torch.device("cuda:0"), torch.Size([2, 3])],
        "texts": {"ä", "b"},
        "bytes": b"\x00\xff",
        "rng": torch.arange(16, dtype=torch.uint8),
        "names": np.array(["a", "b"]),
    }


def mmdetection_run(torch):
    """What MMEngine's runner saves; its classes are made here under their names."""

    class HistoryBuffer:
        def __init__(self, values):
            self.max_length = 1000000
            self._log_history, self._count_history = np.array(values), np.ones(len(values), np.int64)

    class ConfigDict(dict):
        def __reduce_ex__(self, protocol):
            return ConfigDict, (dict(self),)

    for kind, module in (
        (HistoryBuffer, "mmengine.logging.history_buffer"),
        (ConfigDict, "mmengine.config.config"),
    ):
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:length]), types.ModuleType(".".join(parts[:length])))
        kind.__module__, kind.__qualname__ = module, kind.__name__
        setattr(sys.modules[module], kind.__name__, kind)
    return {
        "meta": {
            "cfg": "model = dict(type='MaskRCNN')\n",
            "dataset_meta": {"classes": ("balloon",), "palette": [(220, 20, 60)]},
            "seed": 7,
            "time": "20240229_123000",
            "hook_msgs": ConfigDict(best=ConfigDict(score=np.float32(0.5))),
        },
        "state_dict": {"backbone.conv1.weight": torch.ones(2, 3)},
        "ema_state_dict": {"module.backbone.conv1.weight": torch.zeros(2, 3), "steps": torch.tensor(4)},
        "message_hub": {
            "log_scalars": {"train/loss": HistoryBuffer([1.5, 0.5])},
            "runtime_info": collections.OrderedDict({"epoch": 1}),
            "resumed_keys": {"train/loss": True},
        },
        "optimizer": {"state": {}, "param_groups": [{"params": [0], "betas": (0.9, 0.999)}]},
    }


def special_tensors(torch):
    return {
        "complex": torch.zeros(2, dtype=torch.complex64),
        "sparse": torch.eye(3).to_sparse(),
        "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "meta": torch.zeros(2, device="meta"),
        "float8": torch.ones(2).to(torch.float8_e4m3fn),
    }


def main():
    import safetensors.torch
    import torch

    FOLDER.mkdir(exist_ok=True)
    state = state_dict(torch)
    for suffix, new in (("zip", True), ("stream", False)):

        def save(content, name, suffix=suffix, new=new, **options):
            torch.save(
                content, FOLDER / f"{name}.{suffix}.pth", _use_new_zipfile_serialization=new, **options
            )

        save(state, "state")
        save(training_run(torch), "training")
        save(mmdetection_run(torch), "mmdetection")
        save(torch.nn.Linear(1, 1), "module")
    for name, tensor in special_tensors(torch).items():
        torch.save({"fine": torch.ones(1), name: tensor}, FOLDER / f"special_{name}.zip.pth")
    torch.save({"a": torch.arange(3).to(torch.uint16)}, FOLDER / "uint16.zip.pth")
    buffer = torch.nn.Buffer(torch.ones(2))
    torch.save({"buffer": buffer}, FOLDER / "buffer.zip.pth")
    torch.save({"a": torch.arange(3.0)}, FOLDER / "protocol4.stream.pth",
               pickle_protocol=4, _use_new_zipfile_serialization=False)  # fmt: skip
    torch.serialization.set_crc32_options(False)
    torch.save({"a": torch.arange(3.0)}, FOLDER / "no_checksum.zip.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), FOLDER / "script.pt")
    with open(FOLDER / "tensors.pkl", "wb") as file:
        pickle.dump({"model": {"a": torch.arange(3.0), "b": torch.ones(2, 2).T}}, file)
    contiguous = {name: tensor.detach().clone(memory_format=torch.contiguous_format)
                  for name, tensor in state.items()}  # fmt: skip
    safetensors.torch.save_file(contiguous, FOLDER / "state.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
