"""Our safetensors files against the library's, both ways, and headers that lie."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from ithaca.runtime.checkpoint.header import decode, encode, header_bytes
from ithaca.runtime.checkpoint.record import RecordError

_DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32]
_DTYPES += [torch.int16, torch.int8, torch.uint8, torch.bool]


def _bits(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Tensor]:
    """Named tensors of every type with random bits, NaN and infinities included."""
    names = draw(st.lists(st.text(min_size=1, max_size=8), max_size=5, unique=True))
    names = [name for name in names if name.isprintable() and name != "__metadata__"]
    made = {}
    for name in names:
        dtype = draw(st.sampled_from(_DTYPES))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        size = dtype.itemsize
        for dimension in shape:
            size *= dimension
        raw = draw(st.binary(min_size=size, max_size=size))
        if dtype is torch.bool:
            raw = bytes(byte & 1 for byte in raw)
        flat = torch.tensor(list(raw), dtype=torch.uint8).view(dtype)
        made[name] = flat.reshape(shape)
    return made


@settings(max_examples=100, deadline=None)
@given(tensors())
def test_library_reads_what_we_write(made: dict[str, Tensor]) -> None:
    data = b"".join(encode(made, {"layer": "embed"}))
    read = load(data)
    assert read.keys() == made.keys()
    for name, tensor in made.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert _bits(read[name]) == _bits(tensor)


@settings(max_examples=100, deadline=None)
@given(tensors())
def test_we_read_what_the_library_writes(made: dict[str, Tensor]) -> None:
    data = save(made, {"layer": "embed"})
    length = header_bytes(data[:8], len(data))
    entries = decode(data[8 : 8 + length], len(data) - 8 - length)
    assert {entry.name for entry in entries} == set(made)
    for entry in entries:
        tensor = made[entry.name]
        assert (entry.torch_dtype, entry.shape) == (tensor.dtype, tuple(tensor.shape))
        begin = 8 + length
        assert data[begin + entry.begin : begin + entry.end] == _bits(tensor)


def test_the_bytes_are_those_of_the_library() -> None:
    made = {"b": torch.randn(3), "a": torch.tensor(5), "c": torch.ones(5, dtype=torch.bfloat16)}
    assert b"".join(encode(made, {"step": "1"})) == save(made, {"step": "1"})


def test_a_view_is_written_as_it_looks() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    data = b"".join(encode({"t": base.T, "column": base[:, 1]}, {}))
    read = load(data)
    assert torch.equal(read["t"], base.T)
    assert torch.equal(read["column"], base[:, 1])


def test_a_type_without_a_code_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'z' has type torch\.complex64"):
        list(encode({"z": torch.zeros(2, dtype=torch.complex64)}, {}))


_GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([], "not an object"),
        ({"a": 3}, "a: expected an object"),
        ({"a": {**_GOOD, "dtype": "F33"}}, "type 'F33'"),
        ({"a": {**_GOOD, "shape": [-1]}}, "a.shape: expected a number"),
        ({"a": {**_GOOD, "shape": [2.0]}}, "a.shape: expected a number"),
        ({"a": {**_GOOD, "shape": [True, 2]}}, "a.shape: expected a number"),
        ({"a": {**_GOOD, "shape": [2**62, 2**62]}}, "do not fit shape"),
        ({"a": {**_GOOD, "data_offsets": [0, 8, 9]}}, "do not fit shape"),
        ({"a": {**_GOOD, "data_offsets": [8, 0]}}, "do not fit shape"),
        ({"a": {**_GOOD, "data_offsets": [4, 12]}}, "starts at byte 4"),
        ({"a": _GOOD, "b": _GOOD}, "b: starts at byte 0, not 8"),
        ({"a": {**_GOOD, "more": 1}}, "unknown member more"),
        ({}, "take 0 bytes, the file has 8"),
    ],
)
def test_a_header_that_lies_is_refused(header: object, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        decode(json.dumps(header).encode(), 8)


@pytest.mark.parametrize("start", [b"", b"\0" * 7, b"\xff" * 8, (93).to_bytes(8, "little")])
def test_a_header_longer_than_the_file_is_refused(start: bytes) -> None:
    with pytest.raises(RecordError):
        header_bytes(start, 100)
