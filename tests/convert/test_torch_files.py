"""Files that torch wrote, in both containers; the goldens are made by goldens/record_torch_files.py."""

import pickle
import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from folders import GOLDENS
from goldens.record_torch_files import EXPECTED

from jaxmaskrcnn.convert.files.reader import read_checkpoint, read_source
from jaxmaskrcnn.convert.files.torch_files import STREAM_MAGIC
from jaxmaskrcnn.errors import UserError

FOLDER = GOLDENS / "torch_files"
CONTAINERS = ["zip", "stream"]


@pytest.mark.parametrize("file", ["state.zip.pth", "state.stream.pth", "state.safetensors"])
def test_every_dtype_and_layout(file):
    source = read_source(FOLDER / file)
    assert sorted(source.arrays) == sorted(EXPECTED)
    if file.endswith(".pth"):
        assert list(source.arrays) == list(EXPECTED)
    for name, (values, dtype) in EXPECTED.items():
        array = source.arrays[name]
        dtype = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
        assert array.dtype == dtype and array.shape == values.shape, name
        np.testing.assert_array_equal(array, values.astype(dtype), err_msg=name)
    assert np.signbit(source.arrays["special"][2])
    assert source.attributes == ({} if file.endswith(".pth") else {"format": "pt"})


def test_suffixes_do_not_matter(tmp_path):
    for container in CONTAINERS:
        for suffix in (".pt", ".bin", ".ckpt", ".pyth", ".model", ""):
            path = tmp_path / f"a{suffix}"
            path.write_bytes((FOLDER / f"state.{container}.pth").read_bytes())
            assert len(read_checkpoint(path)) == len(EXPECTED)


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_stands_beside_the_weights_of_a_training_run(container):
    source = read_source(FOLDER / f"training.{container}.pth")
    assert (source.taken, source.others) == ("model", ("model_ema",))
    assert source.arrays["0.weight"].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert source.arrays["1.num_batches_tracked"].shape == () and source.arrays["1.num_batches_tracked"] == 1
    beside = source.attributes
    assert beside["epoch"] == 3 and beside["best"] == 0.375
    assert beside["args"]["dataset"] == "coco"
    assert beside["args"]["output"].name.endswith("PurePosixPath")
    assert beside["args"]["output"].arguments == ("/", "runs", "a")
    assert beside["lr_scheduler"]["milestones"] == {16: 2, 22: 1}
    momentum = beside["optimizer"]["state"][0]["momentum_buffer"]
    assert isinstance(momentum, np.ndarray) and momentum.shape == (2, 2)
    assert beside["time"].name == "datetime.datetime"
    assert beside["counts"] == {"a": [1, 2]}
    assert beside["versions"][1] == "torch.float32" and beside["versions"][2].arguments == ("cuda", 0)
    assert beside["versions"][3] == (2, 3)
    assert beside["texts"] == {"ä", "b"} and beside["bytes"] == b"\x00\xff"
    assert beside["rng"].dtype == np.uint8
    averaged = read_source(FOLDER / f"training.{container}.pth", "ema")
    assert averaged.taken == "model_ema" and averaged.arrays["module.0.weight"].tolist() == [[0.25] * 2] * 2


@pytest.mark.parametrize("container", CONTAINERS)
def test_mmdetection_run(container):
    source = read_source(FOLDER / f"mmdetection.{container}.pth")
    assert (source.taken, source.others) == ("state_dict", ("ema_state_dict",))
    assert source.arrays["backbone.conv1.weight"].tolist() == [[1, 1, 1], [1, 1, 1]]
    meta = source.attributes["meta"]
    assert meta["cfg"] == "model = dict(type='MaskRCNN')\n"
    assert meta["dataset_meta"] == {"classes": ("balloon",), "palette": [(220, 20, 60)]}
    assert meta["hook_msgs"]["best"]["score"] == 0.5
    history = source.attributes["message_hub"]["log_scalars"]["train/loss"]
    assert history.name == "mmengine.logging.history_buffer.HistoryBuffer"
    assert history.state["_log_history"].tolist() == [1.5, 0.5]


@pytest.mark.parametrize("container", CONTAINERS)
def test_whole_modules_are_described_and_not_made(container):
    source = read_source(FOLDER / f"module.{container}.pth")
    assert {name: array.shape for name, array in source.arrays.items()} == {"weight": (1, 1), "bias": (1,)}
    assert source.attributes["whole model"].name == "torch.nn.modules.linear.Linear"


def test_torchscript_is_recognised():
    with pytest.raises(UserError, match="TorchScript archive.*torch.jit.load"):
        read_checkpoint(FOLDER / "script.pt")


SPECIAL = {
    "complex": "has the dtype complex64",
    "float8": "has the dtype float8_e4m3fn",
    "meta": "is a tensor without numbers",
    "quantised": "is a quantised tensor",
    "sparse": "is a sparse tensor",
}


@pytest.mark.parametrize("kind", sorted(SPECIAL))
def test_tensors_that_are_no_plain_numbers(kind):
    with pytest.raises(UserError, match=f"the entry '{kind}' {SPECIAL[kind]}"):
        read_checkpoint(FOLDER / f"special_{kind}.zip.pth")


def test_rarer_files():
    assert read_checkpoint(FOLDER / "uint16.zip.pth")["a"].dtype == np.uint16
    assert read_checkpoint(FOLDER / "buffer.zip.pth")["buffer"].tolist() == [1, 1]
    assert read_checkpoint(FOLDER / "protocol4.stream.pth")["a"].tolist() == [0, 1, 2]
    assert read_checkpoint(FOLDER / "no_checksum.zip.pth")["a"].tolist() == [0, 1, 2]
    source = read_source(FOLDER / "tensors.pkl")
    assert source.taken == "model" and source.arrays["a"].tolist() == [0, 1, 2]
    assert source.arrays["b"].shape == (2, 2)


def test_arrays_are_views_of_one_copy_of_the_file(tmp_path):
    """Whether rewriting the file changes them, and what they take."""
    path = write_archive(tmp_path / "a.pth", tensor(numel=1 << 20, size=(1 << 20,)), {"0": bytes(4 << 20)})
    read_checkpoint(path)  # imports and caches
    tracemalloc.start()
    try:
        array = read_checkpoint(path)["a"]
        assert tracemalloc.get_traced_memory()[1] < 1.2 * (4 << 20)
    finally:
        tracemalloc.stop()
    path.write_bytes(b"")
    assert not array.any()


# Files made by hand.


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor(
    kind="FloatStorage", key="0", numel=4, offset=0, size=(4,), stride=(1,), function="_rebuild_tensor_v2"
):
    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = (
        b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cuda:0") + number(numel)
    )
    rest = b"\x89Nt" if function == "_rebuild_tensor_v2" else b"t"
    return (
        f"ctorch._utils\n{function}\n(".encode() + storage + b"tQ"
        + number(offset) + numbers(size) + numbers(stride) + rest + b"R"
    )  # fmt: skip


def write_archive(path, *tensors, storages=None, byteorder=None, top="archive", compression=0):
    """A zip container with tensors "a", "b", ..."""
    if tensors and isinstance(tensors[-1], dict):
        *tensors, storages = tensors
    pairs = b"".join(text(chr(ord("a") + i)) + item for i, item in enumerate(tensors))
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{top}/data.pkl", b"\x80\x02}(" + pairs + b"u.")
        if byteorder:
            archive.writestr(f"{top}/byteorder", byteorder)
        for key, data in (storages or {"0": np.arange(4, dtype=np.float32).tobytes()}).items():
            archive.writestr(f"{top}/data/{key}", data)
    return path


def test_archives_made_by_hand(tmp_path):
    path = tmp_path / "a.pth"
    assert read_checkpoint(write_archive(path, tensor()))["a"].tolist() == [0, 1, 2, 3]
    assert read_checkpoint(write_archive(path, tensor(), top="any name"))["a"].tolist() == [0, 1, 2, 3]
    old = tensor(function="_rebuild_tensor", size=(2,), stride=(2,), offset=1)
    assert read_checkpoint(write_archive(path, old))["a"].tolist() == [1, 3]
    assert read_checkpoint(write_archive(path, tensor(), compression=zipfile.ZIP_DEFLATED))["a"][3] == 3
    big = {"0": np.arange(4, dtype=">f4").tobytes()}
    array = read_checkpoint(write_archive(path, tensor(), storages=big, byteorder="big"))["a"]
    assert array.tolist() == [0, 1, 2, 3] and array.dtype.isnative
    with pytest.raises(UserError, match="its byte order is b'middle'"):
        read_checkpoint(write_archive(path, tensor(), byteorder="middle"))


WRONG = {
    "beyond": (dict(size=(5,)), "reaches beyond"),
    "offset": (dict(offset=1), "reaches beyond"),
    "stride": (dict(size=(2, 2), stride=(3, 1)), "reaches beyond"),
    "huge": (dict(size=(1 << 40, 1 << 40), stride=(1 << 40, 1)), "reaches beyond"),
    "negative_offset": (dict(offset=-1), "an invalid shape, strides or offset"),
    "negative_stride": (dict(offset=3, stride=(-1,)), "an invalid shape, strides or offset"),
    "negative_size": (dict(size=(-4,)), "an invalid shape, strides or offset"),
    "strides_missing": (dict(stride=()), "an invalid shape, strides or offset"),
    "storage_shorter_than_said": (dict(numel=5), "shorter than 5 numbers"),
    "negative_length": (dict(numel=-1), "no length"),
    "no_such_storage": (dict(key="1"), "archive/data/1"),
    "path_as_a_key": (dict(key="../data.pkl"), "archive/data/../data.pkl"),
    "repeated_too_often": (dict(size=(1 << 30,), stride=(0,)), "repeats a few numbers too often"),
    "too_many_axes": (dict(size=(1,) * 100, stride=(1,) * 100), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(WRONG))
def test_sizes_are_checked_before_memory_is_touched(tmp_path, case):
    changes, words = WRONG[case]
    with pytest.raises(UserError, match=words):
        read_checkpoint(write_archive(tmp_path / "a.pth", tensor(**changes)))


def test_zero_sizes_of_any_extent(tmp_path):
    path = write_archive(tmp_path / "a.pth", tensor(size=(0, 7), stride=(1 << 50, 1)))
    assert read_checkpoint(path)["a"].shape == (0, 7)


def test_hostile_archives(tmp_path):
    marker = tmp_path / "was_run"
    path = tmp_path / "a.pth"
    calls = {
        "posix.system": f"cposix\nsystem\n(S'touch {marker}'\ntR".encode(),
        "torch.hub.load": b"ctorch.hub\nload\n(S'x'\ntR",
        "torch.jit.load": b"ctorch.jit\nload\n(S'x'\ntR",
        "torch.Size.mro": b"c__builtin__\ngetattr\n(ctorch\nSize\nS'mro'\ntR",
    }
    for name, call in calls.items():
        for file in (write_archive(path, tensor(), call), write_stream(tmp_path / "b.pth", call)):
            with pytest.raises(UserError, match=name) as error:
                read_checkpoint(file)
            assert "nothing in it was run" in str(error.value) and "import torch; c = torch.load" in str(
                error.value
            )
    through = b"ctorch._tensor\n_rebuild_from_type_v2\n(cposix\nsystem\nctorch\nTensor\n(S'true'\nt}tR"
    with pytest.raises(UserError, match="posix.system"):
        read_checkpoint(write_archive(path, through))
    module = (
        b"(" + text("module") + b"ctorch.nn.modules.linear\nLinear\n" + text("a.py") + text("code") + b"tQ"
    )
    with pytest.raises(UserError, match="refers to data outside of it"):
        read_checkpoint(write_archive(path, module))
    for pid in (text("0") + b"Q", b"(" + text("file") + text("/etc/passwd") + b"NNNtQ"):
        with pytest.raises(UserError, match="refers to data outside of it"):
            read_checkpoint(write_archive(path, pid))
    assert not marker.exists()


def test_archives_within_archives_are_not_expanded(tmp_path):
    inner = write_archive(tmp_path / "inner.pth", tensor()).read_bytes()
    path = write_archive(tmp_path / "a.pth", tensor(kind="ByteStorage", numel=len(inner), size=(len(inner),)),
                         storages={"0": inner})  # fmt: skip
    assert read_checkpoint(path)["a"].tobytes() == inner
    bomb = write_archive(tmp_path / "b.pth", tensor(numel=40 << 20, size=(40 << 20,)),
                         storages={"0": bytes(160 << 20)}, compression=zipfile.ZIP_DEFLATED)  # fmt: skip
    with pytest.raises(UserError, match="would expand to more than"):
        read_checkpoint(bomb)


def write_stream(path, item=None, keys=("0",), lengths=(4,), view=b"N", magic=None):
    """A stream container with one tensor "a"."""
    item = tensor().replace(b"tQ", view + b"tQ") if item is None else item
    parts = [
        pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    ]
    parts[0] = magic or parts[0]
    parts += [b"\x80\x02}" + text("a") + item + b"s.", pickle.dumps(list(keys), protocol=2)]
    data = np.arange(4, dtype=np.float32).tobytes()
    path.write_bytes(b"".join(parts) + b"".join(struct.pack("<q", length) + data for length in lengths))
    return path


def test_streams_made_by_hand(tmp_path):
    path = tmp_path / "a.pth"
    assert STREAM_MAGIC in write_stream(path).read_bytes()[:20]
    assert read_checkpoint(path)["a"].tolist() == [0, 1, 2, 3]
    view = tensor(size=(2,)).replace(b"tQ", b"(" + text("v") + number(1) + number(3) + b"ttQ")
    assert read_checkpoint(write_stream(path, view))["a"].tolist() == [1, 2]
    for changes, words in (
        (dict(lengths=(3,)), "reaches beyond"),
        (dict(lengths=(5,)), "is cut off"),
        (dict(lengths=(-1,)), "is cut off"),
        (dict(lengths=(1 << 61,)), "is cut off"),
        (dict(keys=()), "not in the file"),
        (dict(keys=("1",)), "damaged"),
        (dict(view=b"(" + text("v") + number(3) + number(2) + b"t"), "reaches beyond the storage"),
        (dict(view=b"(" + text("v") + number(-1) + number(2) + b"t"), "reaches beyond the storage"),
    ):
        with pytest.raises(UserError, match=words):
            read_checkpoint(write_stream(path, **changes))
