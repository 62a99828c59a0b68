"""The manifest: round trip, every flipped bit, every hostile member."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.runtime.checkpoint import manifest as manifests
from ithaca.runtime.checkpoint.layer_file import LayerFile, TensorInfo, file_name
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.record import RecordError
from ithaca.runtime.ledger import Ledger

_LAYER = LayerFile(
    "block0", "block0.safetensors", "ab" * 32, 100, (TensorInfo("param.w", "float32", (2, 3)),)
)
_MANIFEST = Manifest(
    job="small",
    step=12,
    seed=2**63 - 1,
    created="2025-01-02T03:04:05Z",
    config={"seed": 7, "workload": {"use": "lm", "text": 'ü"\n'}, "optimizer": {"lr": 1e-3}},
    fingerprint={"train": "00"},
    identity={"torch": "2.13.0"},
    plan="plan generation=3 schedule=1f1b\npipeline 0-3 0:3@w0\n",
    generation=3,
    layers=(_LAYER, replace(_LAYER, name="embed", file="embed.safetensors")),
    state_hash="0123456789abcdef" * 2,
    ledger=Ledger(12, (3, 5), 96),
)


def _signed(body: dict[str, Any] | list[Any] | bytes) -> bytes:
    """``body`` with a right sha256 behind it, so that only its contents can be refused."""
    if not isinstance(body, bytes):
        body.pop("sha256", None) if isinstance(body, dict) else None
        body = json.dumps(body, indent=1).encode().removesuffix(b"\n}")
    return body + b',\n "sha256": "%s"\n}\n' % hashlib.sha256(body).hexdigest().encode()


def _body() -> dict[str, Any]:
    body: dict[str, Any] = json.loads(_MANIFEST.to_bytes())
    return body


def _undetected(data: bytes, stride: int = 1) -> list[int]:
    """The bits, every ``stride``-th, that can be flipped without being noticed."""
    missed = []
    for bit in range(0, 8 * len(data), stride):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            Manifest.from_bytes(changed)
        except RecordError:
            continue
        missed.append(bit)
    return missed


def test_it_reads_back_as_it_was() -> None:
    data = _MANIFEST.to_bytes()
    assert Manifest.from_bytes(data) == _MANIFEST
    assert Manifest.from_bytes(data).to_bytes() == data
    assert json.loads(data)["layers"][0]["tensors"] == {"param.w": ["float32", 2, 3]}


def test_no_bit_can_flip_unnoticed() -> None:
    assert _undetected(_MANIFEST.to_bytes()) == []


def test_without_its_hash_flips_would_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the test above would notice a manifest that does not check its sha256."""
    data = _MANIFEST.to_bytes()
    length = len(manifests._TRAILER) - 2 + 64

    class Lenient:
        def __init__(self, text: bytes) -> None:
            self._text = bytes(text)

        def hexdigest(self) -> str:
            # As if the hash of any text were the one that stands in the file.
            return data[-length:].split(b'"')[3].decode()

    class Hashlib:
        sha256 = staticmethod(Lenient)

    monkeypatch.setattr(manifests, "hashlib", Hashlib)
    assert _undetected(data, stride=31) != []


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.99])
def test_a_cut_is_noticed(kept: float) -> None:
    data = _MANIFEST.to_bytes()
    with pytest.raises(RecordError, match="cut short or changed"):
        Manifest.from_bytes(data[: int(kept * len(data))])
    with pytest.raises(RecordError, match="cut short or changed"):
        Manifest.from_bytes(data[:-1])
    with pytest.raises(RecordError, match="cut short or changed"):
        Manifest.from_bytes(data + b"\n")


def _set(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        target: Any = body
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("version", value=2), "version: it has format 2"),
        (_set("version", value="1"), "version: expected a number"),
        (_set("step", value=-1), "step: expected a number from 0"),
        (_set("step", value=10**30), "step: expected a number.*got a number of 100 bits"),
        (_set("step", value=True), "step: expected a number"),
        (_set("step", value=12.0), "step: expected a number"),
        (_set("step", value=13), "ledger.committed: 12 steps, but the state has 13"),
        (_set("seed", value=2**63), "seed: expected a number"),
        (_set("job", value=None), "job: expected a text"),
        (_set("config", value=[]), "config: expected an object"),
        (_set("config", "seed", value=8), "config_hash"),
        (_set("fingerprint", value={"a": 1}), "fingerprint.a: expected a text"),
        (_set("identity", value="cpu"), "identity: expected an object"),
        (_set("layers", value={}), "layers: expected a list"),
        (_set("layers", value=[]), "layers: it lists no layer"),
        (_set("layers", 0, value="x"), r"layers\[0\]: expected an object"),
        (_set("layers", 0, "name", value="embed"), r"layers\[0\].file: expected 'embed.safe"),
        (_set("layers", 0, "name", value=""), r"layers\[0\].name: a layer's name must have"),
        (_set("layers", 0, "name", value="x" * 999), r"layers\[0\].name: a layer's name"),
        (_set("layers", 0, "file", value="../block0.safetensors"), r"layers\[0\].file"),
        (_set("layers", 0, "file", value="/etc/passwd"), r"layers\[0\].file"),
        (_set("layers", 0, "file", value="manifest.json"), r"layers\[0\].file"),
        (_set("layers", 0, "sha256", value="AB" * 32), r"layers\[0\].sha256"),
        (_set("layers", 0, "sha256", value="ab"), r"layers\[0\].sha256"),
        (_set("layers", 0, "bytes", value=-5), r"layers\[0\].bytes"),
        (_set("layers", 0, "bytes", value=2**64), r"layers\[0\].bytes"),
        (_set("layers", 0, "tensors", value=[]), r"layers\[0\].tensors"),
        (_set("layers", 0, "tensors", "param.w", value=[]), r"layers\[0\].tensors.param.w"),
        (_set("layers", 0, "tensors", "param.w", value=["float32", -2]), "param.w"),
        (_set("layers", 0, "more", value=1), r"layers\[0\]: unknown member more"),
        (_set("state_hash", value="xyz"), "state_hash: expected a text like"),
        (_set("ledger", value=3), "ledger: expected an object"),
        (_set("ledger", "skipped", value=[5, 3]), "ledger.skipped: the steps are not ascending"),
        (_set("ledger", "skipped", value=[12]), r"ledger.skipped\[0\]: expected a number"),
        (_set("extra", value=1), "the top level: unknown member extra"),
        (_set("plan", value="\ud800"), "it is not JSON"),
    ],
)
def test_a_hostile_member_is_named(change: Callable[[dict[str, Any]], None], message: str) -> None:
    body = _body()
    change(body)
    with pytest.raises(RecordError, match=message):
        Manifest.from_bytes(_signed(body))


def test_every_member_is_required() -> None:
    for key in set(_body()) - {"sha256"}:
        body = _body()
        del body[key]
        with pytest.raises(RecordError, match=f"{key}: missing"):
            Manifest.from_bytes(_signed(body))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1",
        b"\xff\xfe",
        b'{"a": NaN',
        b'{"a": 1, "a": 2',
        b'{"a": ' + b"9" * 10_000,
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000,
        b'{"a": ' + b'{"a":' * 60 + b"1" + b"}" * 60,
        b'{"a": "\\ud800"',
    ],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(RecordError):
        Manifest.from_bytes(_signed(text))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_member_of_any_type_is_read_or_refused(data: st.DataObject) -> None:
    body = _body()
    target: Any = body
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(target[key], dict | list) and target[key] and data.draw(st.booleans()):
            target = target[key]
            continue
        target[key] = data.draw(_JSON)
        break
    with suppress(RecordError):
        Manifest.from_bytes(_signed(body))


def test_what_would_not_read_back_is_not_written() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        replace(_MANIFEST, layers=(_LAYER, _LAYER)).to_bytes()
    with pytest.raises(ValueError, match="state_hash"):
        replace(_MANIFEST, state_hash="").to_bytes()


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_names_of_files_are_apart_and_never_paths(first: str, second: str) -> None:
    names = []
    for layer in (first, second):
        try:
            names.append(file_name(layer))
        except ValueError:
            return
    assert (names[0] == names[1]) == (first == second)
    for name in names:
        assert "/" not in name
        assert "\0" not in name
        assert not name.startswith(".")
        assert len(name) < 200


@pytest.mark.parametrize("layer", ["../../etc/passwd", "a/b", "..", ".", "embed\0", "~root"])
def test_a_name_that_looks_like_a_path_stays_in_its_folder(layer: str) -> None:
    assert not set(file_name(layer)) & set("/\\\0")
    assert file_name(layer) not in (".", "..")


@pytest.mark.parametrize("layer", ["", "x" * 200, "\ud800"])
def test_a_name_that_no_file_can_have_is_refused(layer: str) -> None:
    with pytest.raises(ValueError, match="a layer's name must"):
        file_name(layer)
