"""Checkpoint files to arrays, and the refusal of pickles that are more than arrays."""

import collections
import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from jaxmaskrcnn.convert import reader
from jaxmaskrcnn.convert.reader import read_checkpoint, read_source
from jaxmaskrcnn.errors import UserError


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


def test_python2_pickle(tmp_path):
    """Python 2 wrote an array's bytes as a str, which only latin1 decodes to the same bytes."""
    value = np.array([[1.5, -2.0], [3.25, 1e10]], "<f4")
    data = value.tobytes()
    assert max(data) > 127
    stream = (
        b"\x80\x02}q\x00U\x01wcnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"  # the shape (0,) and the code b
        b"(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + b"U" + bytes([len(data)]) + data + b"tbs."
    )
    pickletools.dis(stream, out=io.StringIO())
    path = tmp_path / "py2.pkl"
    path.write_bytes(stream)
    np.testing.assert_array_equal(read_checkpoint(path)["w"], value)


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
        "getattr": (Call(getattr, Call(__import__, "os"), "system"), ".getattr"),
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
    "python2_builtin": (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
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


def scalar(dtype):
    """``{"a": scalar(dtype, "")}`` in pickle's protocol 0."""
    return b"(S'a'\ncnumpy.core.multiarray\nscalar\n(" + dtype + b"S''\ntRd."


# What the allowed names could be misused for.
MISUSE = {
    "codec": (b"c_codecs\nencode\n(S'x'\nS'zlib_codec'\ntR.", "encoded as 'zlib_codec'"),
    "array_class_called": (b"cnumpy\nndarray\n(I1000\ntR.", "a class is called"),
    "object_dtype": (scalar(b"cnumpy\ndtype\n(S'O8'\ntR"), "dtype 'O8'"),
    "structured_dtype": (scalar(b"cnumpy\ndtype\n(S'f4,f4'\ntR"), "dtype 'f4,f4'"),
    "dtype_with_fields": (
        scalar(b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nN(S'a'\nt(dI8\nI8\nI0\ntb"),
        "no plain number",
    ),
    "bytes_of_a_length": (b"c__builtin__\nbytes\n(I1000000000000\ntR.", "positional argument"),
    "attribute_of_a_function": (b"c_codecs\nencode\n}S'x'\nI1\nsb.", "state is set on a function"),
    "slot_of_a_function": (b"c_codecs\nencode\nN}S'_call'\nI1\ns\x86b.", "state is set on a function"),
}


@pytest.mark.parametrize("case", sorted(MISUSE))
def test_allowed_names_do_nothing_else(tmp_path, case):
    before = {name: allowed._call for name, allowed in reader._ALLOWED.items()}
    stream, words = MISUSE[case]
    (tmp_path / "a.pkl").write_bytes(stream)
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path / "a.pkl")
    assert {name: allowed._call for name, allowed in reader._ALLOWED.items()} == before


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
    with pytest.raises(UserError, match="'model' is a dict"):
        read_checkpoint(write(tmp_path / "a.pkl", loop))


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_truncated_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".pkl":
        write(path, {"model": some_arrays()})
    else:
        np.savez(path, **some_arrays())
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged") as error:
            read_checkpoint(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_flipped_bytes_never_raise_anything_else(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    small = {"a": np.arange(4, dtype=np.float32), "b": np.zeros((2, 2))}
    if suffix == ".pkl":
        write(path, {"model": small})
    else:
        np.savez(path, **small)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except UserError:
            pass


def test_files_of_another_kind(tmp_path):
    for name, match in (("a.pth", "a .pth file"), ("b", "without an extension"), ("c.h5", "a .h5 file")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=match) as error:
            read_checkpoint(tmp_path / name)
        assert ".npz, .pkl" in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pkl")
    (tmp_path / "folder.pkl").mkdir()
    with pytest.raises(UserError, match="is a directory"):
        read_checkpoint(tmp_path / "folder.pkl")


def test_contents_that_are_no_parameters(tmp_path):
    path = tmp_path / "a.pkl"
    with pytest.raises(UserError, match="holds a list"):
        read_checkpoint(write(path, [1, 2]))
    with pytest.raises(UserError, match="no arrays"):
        read_checkpoint(write(path, {"model": {}}))
    with pytest.raises(UserError, match="'blobs' is a dict"):
        read_checkpoint(write(path, {"blobs": {"a": np.zeros(1)}}))
    with pytest.raises(UserError, match="the entry 3 is a ndarray"):
        read_checkpoint(write(path, {3: np.zeros(1)}))
    np.savez(tmp_path / "b.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match="Object arrays"):
        read_checkpoint(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", a=np.array(["text"]))
    with pytest.raises(UserError, match="dtype <U4"):
        read_checkpoint(tmp_path / "c.npz")


def test_a_huge_length_is_not_allocated(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.")
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "a.pkl")
