"""Checkpoint files to arrays, and the refusal of pickles that are more than arrays."""

import collections
import datetime
import io
import os
import pickle
import pickletools
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxmaskrcnn.convert.files.reader import read_checkpoint, read_source
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.pickles import unpickler


def some_arrays():
    rng = np.random.default_rng(0)
    return {
        "stem.conv1.weight": rng.standard_normal((4, 3, 7, 7)).astype(np.float32),
        "half": rng.standard_normal(5).astype(np.float16),
        "double": rng.standard_normal((2, 3)),
        "fortran": np.asfortranarray(rng.standard_normal((3, 4)).astype(np.float32)),
        "strided": rng.standard_normal((6, 4)).astype(np.float32)[::2, ::-1],
        "big_endian": np.arange(6, dtype=">f4").reshape(2, 3),
        "counter": np.array(7, np.int64),
        "mask": np.array([True, False]),
        "special": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


def assert_same(arrays, expected):
    assert list(arrays) == list(expected)
    for name, value in expected.items():
        assert arrays[name].dtype == value.dtype.newbyteorder("="), name
        assert arrays[name].shape == value.shape
        np.testing.assert_array_equal(arrays[name], value)
    assert np.signbit(arrays["special"][1])


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickle_of_any_protocol(tmp_path, protocol):
    path = write(tmp_path / "a.pkl", {"model": some_arrays(), "__author__": "MSRA"}, protocol)
    assert_same(read_checkpoint(path), some_arrays())
    assert read_source(path).attributes == {"__author__": "MSRA"}


def test_flat_pickle_and_ordered_dict(tmp_path):
    flat = {**some_arrays(), "matching_heuristics": True, "__author__": "someone"}
    source = read_source(write(tmp_path / "a.pkl", flat))
    assert_same(source.arrays, some_arrays())
    assert source.attributes == {"matching_heuristics": True, "__author__": "someone"}

    state = collections.OrderedDict(some_arrays())
    state._metadata = {"version": 2}  # as torch's state dicts have
    for protocol in (0, 2, 4):
        assert_same(
            read_checkpoint(write(tmp_path / "b.pkl", {"state_dict": state}, protocol)), some_arrays()
        )


def test_numpy_scalars(tmp_path):
    for protocol in (0, 2, 4):
        arrays = read_checkpoint(write(tmp_path / "a.pkl", {"a": np.float32(0.1), "b": 3}, protocol))
        assert arrays["a"].dtype == np.float32 and arrays["a"] == np.float32(0.1)
        assert arrays["b"] == 3


@pytest.mark.parametrize("count", [1, 50, 20_000])
def test_python2_pickle(tmp_path, count):
    """Python 2 wrote an array's bytes as a str, which only latin1 decodes to the same bytes."""
    value = np.tile(np.array([1.5, -2.0, 3.25, 1e10], "<f4"), count)
    data = value.tobytes()
    assert max(data) > 127
    text = b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))
    stream = (
        b"\x80\x02}q\x00U\x01wcnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"  # the shape (0,) and the code b
        b"(K\x01J" + struct.pack("<i", 4 * count) + b"\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + text + data + b"tbs."
    )
    pickletools.dis(stream, out=io.StringIO())
    path = tmp_path / "py2.pkl"
    path.write_bytes(stream)
    np.testing.assert_array_equal(read_checkpoint(path)["w"], value)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_values_beside_the_weights(tmp_path, protocol):
    beside = {
        "bytes": b"\x00\xff" * 40_000,
        "bytearray": bytearray(b"\x80x"),
        "text": "ä" * 70_000,
        "line": "a\nb\\u00e4",
        "numbers": [0, -1, 255, 1 << 16, -(1 << 40), 1 << 70, 0.5, float("inf")],
        "constants": (None, True, False, ()),
        "sets": ({1, "a"}, frozenset([(1, 2)])),
        "keys": {1: "a", None: "b", (1, "x"): "c", b"y": "d", np.int64(7): "e", float: "f"},
        "deque": collections.deque([1, 2], 5),
        "same": [[1]] * 2,
    }
    beside["keys"][2.5] = beside["same"]
    found = read_source(
        write(tmp_path / "a.pkl", {"model": {"a": np.zeros(1)}, **beside}, protocol)
    ).attributes
    assert found.pop("deque") == [1, 2]
    keys = found["keys"]
    assert keys.pop("builtins.float") == beside["keys"].pop(float)
    assert found == {name: value for name, value in beside.items() if name != "deque"}
    assert type(found["bytes"]) is bytes and type(found["text"]) is str


def test_npz(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **some_arrays())
        assert_same(read_checkpoint(tmp_path / "a.npz"), some_arrays())


class Call:
    """Pickles as a call of ``function`` with ``args``."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def hostile(marker):
    command = f"touch {marker}"
    return {
        "system": (Call(os.system, command), "system"),
        "eval": (Call(eval, f"__import__('os').system({command!r})"), ".eval"),
        "open": (Call(open, str(marker), "w"), "open"),
        "getattr": (Call(getattr, Call(__import__, "os"), "system"), "__import__"),
        "nested": ({"model": {"a": [(Call(os.system, command),)]}, "__author__": "x"}, "system"),
        "array_of_objects": ({"a": np.array([Call(os.system, command)], object)}, "system"),
        "in_array_state": (Call(np.dtype, Call(eval, "'f4'")), ".eval"),
        "numpy_load": (Call(np.load, str(marker), None, True), "numpy"),
        "loads": (Call(pickle.loads, pickle.dumps(Call(os.system, command))), "pickle.loads"),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("case", sorted(hostile("x")))
def test_hostile_pickles_are_refused_by_name(tmp_path, case, protocol):
    marker = tmp_path / "was_run"
    payload, name = hostile(marker)[case]
    path = write(tmp_path / "a.pkl", payload, protocol)
    with pytest.raises(UserError, match="was refused: its pickle names") as error:
        read_checkpoint(path)
    assert name in str(error.value) and str(path) in str(error.value)
    assert not marker.exists()


# Names of one module written by hand, as attackers do: dotted names, the reader's own functions.
RAW = {
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
    "dotted_allowed": (b"\x80\x04\x8c\x0bcollections\x8c\x10abc.sys.modules.\x93.", "collections.abc"),
    "inst": (b"(S'true'\nios\nsystem\n.", "os.system"),
    "python2_builtin": (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval"),
    "python2_commands": (b"ccommands\ngetoutput\n(S'true'\ntR.", "getoutput"),
    "extension_import": (b"cctypes\nCDLL\n(S'libc.so.6'\ntR.", "ctypes.CDLL"),
}


@pytest.mark.parametrize("case", sorted(RAW))
def test_hand_written_pickles_are_refused(tmp_path, case):
    stream, name = RAW[case]
    (tmp_path / "a.pkl").write_bytes(stream)
    with pytest.raises(UserError, match="was refused") as error:
        read_checkpoint(tmp_path / "a.pkl")
    assert name in str(error.value)


# What the allowed names could be misused for.
MISUSE = {
    "codec": (b"c_codecs\nencode\n(S'x'\nS'zlib_codec'\ntR.", "bytes are not encoded as latin1"),
    "array_class_called": (b"cnumpy\nndarray\n(I1000\ntR.", "numpy.ndarray is called"),
    "bytes_of_a_length": (b"c__builtin__\nbytes\n(I1000000000000\ntR.", "positional argument"),
    "attribute_of_a_function": (b"c_codecs\nencode\n}S'call'\nI1\nsb.", "a state is set on _codecs.encode"),
    "slot_of_a_function": (b"c_codecs\nencode\nN}S'call'\nI1\ns\x86b.", "a state is set on _codecs.encode"),
    "state_of_a_list": (b"](I1\nI2\ntb.", "a state is set on a list"),
    "state_of_a_dictionary": (b"}}S'__class__'\nI1\nsb.", "a state is set on a dict"),
    "state_of_a_size": (b"ctorch\nSize\n((I1\nttR}b.", "a state is set on a tuple"),
    "call_of_a_list": (b"]I1\n\x85R.", "a list is called"),
    "call_of_the_result": (b"cargparse\nNamespace\n)R)R.", "an argparse.Namespace is called"),
    "items_of_a_text": (b"(0S'a'\nI1\na.", "items are appended to a str"),
    "items_of_a_namespace": (
        b"cargparse\nNamespace\n)RI1\na.",
        "items are appended to an argparse.Namespace",
    ),
    "keys_of_a_list": (b"]I1\nI2\ns.", "items are set in a list"),
    "reconstructor": (b"ccopy_reg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.", "os.system"),
    "new_with_keywords": (
        b"\x80\x04\x8c\x08argparse\x8c\tNamespace\x93)}K\x01K\x02s\x92.",
        "with keyword arguments",
    ),
    "attribute_of_a_class": (
        b"c__builtin__\ngetattr\n(ctorch\nSize\nS'__base__'\ntR.",
        "torch.Size.__base__",
    ),
    "attribute_of_an_object": (b"c__builtin__\ngetattr\n((lS'pop'\ntR.", "something that is not a class"),
    "attribute_that_is_called": (
        b"c__builtin__\ngetattr\n(cmmengine.logging.history_buffer\nHistoryBuffer\nS'min'\ntR)R.",
        "HistoryBuffer.min is called",
    ),
    "extension_registry": (b"\x80\x02\x82\x01.", "extension registry"),
    "extension_registry_4": (b"\x80\x02\x84\x01\x00\x00\x00.", "extension registry"),
    "persistent_text": (b"(0Pos.system\n.", "refers to data outside of it"),
    "persistent_object": (b"\x80\x02cos\nsystem\nQ.", "os.system"),
    "buffer": (b"\x80\x05\x97.", "unknown pickle instruction"),
    "name_that_is_no_text": (b"\x80\x04](K\x01e]\x93.", "is not a string"),
    "getattr_of_hub": (b"\x80\x04\x8c\x05torch\x8c\x08hub.load\x93.", "torch.hub.load"),
    "fromkeys": (b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.", "OrderedDict.fromkeys"),
    "script": (b"ctorch._C\nimport_ir_module\n(S'x'\ntR.", "torch._C.import_ir_module"),
}


@pytest.mark.parametrize("case", sorted(MISUSE))
def test_allowed_names_do_nothing_else(tmp_path, case):
    stream, words = MISUSE[case]
    (tmp_path / "a.pkl").write_bytes(stream)
    with pytest.raises(UserError, match=re.escape(words)):
        read_checkpoint(tmp_path / "a.pkl")


def test_history_of_a_run_names_its_own_functions(tmp_path):
    """MMEngine's runner keeps them in every checkpoint; protocol 2 writes them as attributes."""
    stream = (
        b"(S'state_dict'\n(S'a'\nF1.5\ndS'log'\ncmmengine.logging.history_buffer\nHistoryBuffer\n)R"
        b"(S'mean'\nc__builtin__\ngetattr\n(cmmengine.logging.history_buffer\nHistoryBuffer\nS'mean'\ntRdbd."
    )
    (tmp_path / "a.pkl").write_bytes(
        stream.replace(
            b"F1.5\n",
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f4'\nI0\nI1\ntRS'\\x00\\x00\\xc0?'\ntR",
        )
    )
    source = read_source(tmp_path / "a.pkl")
    assert source.arrays["a"] == 1.5
    assert source.attributes["log"].state == {"mean": "mmengine.logging.history_buffer.HistoryBuffer.mean"}


UNUSABLE = {
    "object_dtype": b"cnumpy\ndtype\n(S'O8'\ntR",
    "structured_dtype": b"cnumpy\ndtype\n(S'f4,f4'\ntR",
    "dtype_with_fields": b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nN(S'a'\nt(dI8\nI8\nI0\ntb",
}


@pytest.mark.parametrize("case", sorted(UNUSABLE))
def test_arrays_that_are_not_of_numbers(tmp_path, case):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"(S'a'\ncnumpy.core.multiarray\nscalar\n(" + UNUSABLE[case] + b"S''\ntRd.")
    with pytest.raises(UserError, match="the entry 'a' has the dtype"):
        read_checkpoint(path)


def doubled(times):
    """A list that holds a list twice, that holds a list twice, ..."""
    return b"\x80\x02]" + b"q\x010](h\x01h\x01e" * times


MODEL = b"X\x05\x00\x00\x00model}X\x01\x00\x00\x00aK\x01ss"
TEXT = b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"q\x010"

BOMBS = {
    "doubled_lists": (doubled(50) + b".", "its contents expand to more than 3000000 values"),
    "doubled_beside_the_weights": (
        b"\x80\x02}" + MODEL + b"X\x04\x00\x00\x00junk" + doubled(50)[2:] + b"s.",
        "its contents expand to more than 3000000 values",
    ),
    "doubled_tuple_as_a_key": (b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.", "a tuple as a key"),
    "doubled_tuple_in_a_set": (
        b"\x80\x02c__builtin__\nset\n](" + b")" + b"2\x86" * 60 + b"e\x85R.", "a tuple as a key"
    ),
    "doubled_list_as_a_name": (doubled(60) + b"X\x01\x00\x00\x00a\x93.", "is not a string"),
    "doubled_list_as_a_code": (b"\x80\x02cnumpy\ndtype\n" + doubled(60)[2:] + b"\x85R.", "holds a str"),
    "deep_lists": (b"\x80\x02" + b"](" * 3000 + b"e" * 3000 + b".", "nested more than 60 levels deep"),
    "large_memo_index": (b"\x80\x02]r\xff\xff\xff\xff.", "holds a list"),
    "copied_lists": (
        b"\x80\x02](" + b"N" * 100_000 + b"eq\x010" + b"ctorch\nSize\nh\x01\x85R" * 2000 + b".",
        "would expand",
    ),
    "copied_texts": (b"\x80\x02" + TEXT + b"c_codecs\nencode\nh\x01\x85R" * 2000 + b".", "would expand"),
    "swapped_arrays": (
        b"\x80\x03](" + TEXT.replace(b"X", b"B", 1)
        + b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R(K\x03X\x01\x00\x00\x00>NNNtbq\x020"
        + b"cnumpy.core.numeric\n_frombuffer\n(h\x01h\x02J\x00\x00\x04\x00\x85tR" * 2000 + b"e.",
        "would expand",
    ),
    "text_of_a_length": (b"\x80\x02X\xff\xff\xff\x7fabc.", "ends early"),
    "bytes_of_a_length": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.", "ends early"),
    "negative_length": (b"\x80\x02T\xff\xff\xff\xffabc.", "ends early"),
    "long_number": (b"\x80\x02L" + b"9" * 100_000 + b"L\n.", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(BOMBS))
def test_bombs_take_neither_time_nor_memory(tmp_path, case):
    content, words = BOMBS[case]
    (tmp_path / "a.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=words) as error:
            read_checkpoint(tmp_path / "a.pkl")
        assert tracemalloc.get_traced_memory()[1] < 120 << 20
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 1500


def test_instructions_are_limited(tmp_path, monkeypatch):
    """Each mark takes one byte of the file and many of memory."""
    monkeypatch.setattr(unpickler, "_MOST_INSTRUCTIONS", 1000)  # a file beyond the real limit is large
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + b"(" * 1001)
    with pytest.raises(UserError, match="more than 1000 instructions"):
        read_checkpoint(tmp_path / "a.pkl")


def test_names_in_messages_are_printable(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"cos\x1b[2J\r\nsystem\n.")
    with pytest.raises(UserError, match=r"os\?\[2J\?.system") as error:
        read_checkpoint(tmp_path / "a.pkl")
    assert str(error.value).isprintable()


def test_array_that_claims_more_than_it_has(tmp_path):
    good = pickle.dumps({"a": np.zeros(3, np.float32)}, protocol=2)
    shape = b"K\x03\x85"
    assert good.count(shape) == 1
    (tmp_path / "a.pkl").write_bytes(good.replace(shape, b"K\x7f\x85"))
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "a.pkl")


def test_dictionary_that_contains_itself(tmp_path):
    loop = {"a": np.zeros(2, np.float32)}
    loop["model"] = loop
    with pytest.raises(UserError, match="'model' is a value that contains itself"):
        read_checkpoint(write(tmp_path / "a.pkl", loop))
    loop = {"args": [1]}
    loop["args"].append(loop)
    path = write(tmp_path / "b.pkl", {"model": {"a": np.zeros(2, np.float32)}, **loop})
    assert read_source(path).attributes["args"][1]["args"].name == "value that contains itself"


OTHER_FILES = {
    b"": "it is empty",
    b"x": "not a checkpoint; give a file of a supported format (.pth",
    b"\n<!DOCTYPE html><html>404": "web page",
    b"<?xml version='1.0'?><Error>": "web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "Git LFS pointer",
    b"\x1f\x8b\x08\x00": "compressed; expand it first",
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file (Keras, TensorFlow or others)",
    b"storages".ljust(257, b"\0") + b"ustar\x0000": "tar archive, as torch wrote before 0.1.10",
}


@pytest.mark.parametrize("content", OTHER_FILES)
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(OTHER_FILES[content])) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(str(path))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pkl")
    (tmp_path / "folder.pkl").mkdir()
    with pytest.raises(UserError, match="is a directory"):
        read_checkpoint(tmp_path / "folder.pkl")
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("model/weights.txt", "1 2 3")
    with pytest.raises(UserError, match="zip archive, but neither torch's nor a .npz"):
        read_checkpoint(tmp_path / "a.pth")


def test_contents_not_suffixes_tell_the_format(tmp_path):
    np.savez(tmp_path / "a.npz", **some_arrays())
    assert_same(read_checkpoint((tmp_path / "a.npz").rename(tmp_path / "b.pth")), some_arrays())
    assert_same(read_checkpoint(write(tmp_path / "c.npz", some_arrays())), some_arrays())


def bomb_archive(path, size):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.save(header, np.zeros(0, np.uint8))
        header = header.getvalue().replace(b"(0,)", str((size,)).encode())[:128].ljust(127) + b"\n"
        archive.writestr("a.npy", header + bytes(size))


def test_compressed_archives_expand_only_so_far(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1 << 20, np.float32))
    assert read_checkpoint(tmp_path / "a.npz")["a"].nbytes == 4 << 20
    bomb_archive(tmp_path / "b.npz", 80 << 20)
    with pytest.raises(UserError, match="would expand to more than 65 MiB"):
        read_checkpoint(tmp_path / "b.npz")
    # An entry that says it is small and is not, and one whose bytes were changed.
    whole = (tmp_path / "a.npz").read_bytes()
    size = struct.pack("<I", (4 << 20) + 128)
    (tmp_path / "c.npz").write_bytes(whole.replace(size, struct.pack("<I", 1000)))
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", a=np.arange(8.0))
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole.replace(struct.pack("<d", 5), struct.pack("<d", 6)))
    with pytest.raises(UserError, match="has a wrong size or checksum"):
        read_checkpoint(tmp_path / "d.npz")


A, B = {"w.x": np.zeros(2, np.float32)}, {"w.x": np.ones(2, np.float32)}

# content: what "auto" takes, the rest, what "ema" takes
NESTED = {
    "flat": (A, "", (), None),
    "model": ({"model": A, "epoch": 3}, "model", (), None),
    "state_dict": ({"epoch": 3, "state_dict": A}, "state_dict", (), None),
    "model_state_dict": ({"model_state_dict": A}, "model_state_dict", (), None),
    "pycls": ({"model_state": A, "cfg": "x"}, "model_state", (), None),
    "deepspeed": ({"module": A}, "module", (), None),
    "model_first": ({"state_dict": B, "model": A}, "model", ("state_dict",), None),
    "ema_first": ({"model": {"ema": B}, "state_dict": A}, "state_dict", ("model.ema",), "model.ema"),
    "empty_model": ({"state_dict": A, "model": {}}, "state_dict", (), None),
    "config_in_model": ({"model": {"type": "MaskRCNN"}, "state_dict": A}, "state_dict", (), None),
    "twice": ({"state_dict": {"model": A, "step": 1}}, "state_dict.model", (), None),
    "ema_only": ({"ema": A}, "ema", (), "ema"),
    "both": ({"model_ema": B, "model": A}, "model", ("model_ema",), "model_ema"),
    "mmengine": (
        {"state_dict": A, "ema_state_dict": B}, "state_dict", ("ema_state_dict",), "ema_state_dict",
    ),
    "timm": ({"state_dict": A, "state_dict_ema": B}, "state_dict", ("state_dict_ema",), "state_dict_ema"),
    "ema_deeper": (
        {"ema": {"state_dict": B, "decay": 0.9}, "model": A}, "model", ("ema.state_dict",), "ema.state_dict",
    ),
    "ema_of_model": ({"model": {"state_dict": A, "ema": B}}, "model.state_dict", ("model.ema",), "model.ema"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(NESTED))
def test_where_the_parameters_are(tmp_path, case):
    content, taken, others, averaged = NESTED[case]
    path = write(tmp_path / "a.pkl", content)
    source = read_source(path)
    assert (source.taken, source.others) == (taken, others)
    assert source.arrays["w.x"].tolist() == [0, 0]
    if averaged is None:
        with pytest.raises(UserError, match="has no weights='ema', only"):
            read_source(path, "ema")
    else:
        source = read_source(path, "ema")
        assert source.taken == averaged
        assert source.arrays["w.x"].tolist() == ([0, 0] if case == "ema_only" else [1, 1])
        if case == "ema_only":
            with pytest.raises(UserError, match="has no weights='model', only ema"):
                read_source(path, "model")
    if case == "twice":
        assert read_source(path).attributes == {"step": 1}
    with pytest.raises(UserError, match="weights is 'best'"):
        read_source(path, "best")


def test_caffe2_files(tmp_path):
    """Detectron's and Caffe2's files keep the optimizer among the parameters."""
    blobs = {
        "conv1_w": np.ones((2, 2), np.float32),
        "conv1_w_momentum": np.zeros((2, 2), np.float32),
        "lr": np.array([0.1], np.float32),
        "weight_order": "a",
    }
    for content, taken in (({"blobs": blobs, "cfg": "TRAIN: {}"}, "blobs"), (blobs, "")):
        source = read_source(write(tmp_path / "a.pkl", content))
        assert list(source.arrays) == ["conv1_w"] and source.taken == taken
        assert source.attributes["weight_order"] == "a" and "conv1_w_momentum" in source.attributes
    # Elsewhere such names are parameters.
    named = {"a.lr": np.ones(1), "a_momentum": np.ones(1), "lr": np.ones(1)}
    assert list(read_checkpoint(write(tmp_path / "a.pkl", {"model": named}))) == list(named)


def test_contents_that_are_no_parameters(tmp_path):
    path = tmp_path / "a.pkl"
    with pytest.raises(UserError, match="holds a list"):
        read_checkpoint(write(path, [1, 2]))
    with pytest.raises(UserError, match="no arrays"):
        read_checkpoint(write(path, {"epoch": "3"}))
    with pytest.raises(UserError, match="'backbone' is a dict"):
        read_checkpoint(write(path, {"backbone": {"a": np.zeros(1)}}))
    with pytest.raises(UserError, match="'model' is a dict"):
        read_checkpoint(write(path, {"model": {"backbone": {"a": np.zeros(1)}}}))
    with pytest.raises(UserError, match="'b' is a datetime.date"):
        read_checkpoint(write(path, {"model": {"a": np.zeros(1), "b": datetime.date(2024, 2, 29)}}))
    with pytest.raises(UserError, match="the entry 3 is a ndarray"):
        read_checkpoint(write(path, {3: np.zeros(1)}))
    np.savez(tmp_path / "b.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match="'a' has the dtype object"):
        read_checkpoint(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", a=np.array(["text"]))
    with pytest.raises(UserError, match="dtype <U4"):
        read_checkpoint(tmp_path / "c.npz")
