"""The manifest: what a checkpoint consists of and where it came from; written last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ithaca.runtime.checkpoint.identity import config_hash
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.record import Record, RecordError, parse_json
from ithaca.runtime.ledger import Ledger

FILE = "manifest.json"
"""The manifest's name in the folder of its checkpoint."""

LONGEST = 64 << 20
"""Bytes of manifest that a reader accepts."""

LARGEST_STEP = 10**12
"""The largest number of steps that a checkpoint can be of."""

_VERSION = 1
_TRAILER = b',\n "sha256": "%s"\n}\n'
_TRAILER_LENGTH = len(_TRAILER) - 2 + 64


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checkpoint's contents and origin.

    Attributes:
        job: the job's name.
        step: committed steps in the state; the next step to run has this number.
        seed: of the job.
        created: when, in UTC, ISO 8601.
        config: the resolved job, as JSON values.
        fingerprint: the workload's, such as hashes of its data.
        identity: what the bits depend on in the machine: torch build, device, threads.
        plan: text of the plan that was running.
        generation: of that plan.
        layers: the files, in the workload's layer order.
        state_hash: the 128-bit hash of parameters and optimizer state, as 32 hex digits.
        ledger: which steps and how many samples are in the state.
    """

    job: str
    step: int
    seed: int
    created: str
    config: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    identity: Mapping[str, str]
    plan: str
    generation: int
    layers: tuple[LayerFile, ...]
    state_hash: str
    ledger: Ledger

    @property
    def config_hash(self) -> str:
        """sha256 of the part of ``config`` that decides the result."""
        return config_hash(self.config)

    @property
    def total_bytes(self) -> int:
        """Length of all layers' files together."""
        return sum(layer.bytes for layer in self.layers)

    def layer(self, name: str) -> LayerFile:
        """The file of the layer called ``name``; ``KeyError`` if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"the checkpoint has no layer {name!r}")

    def to_bytes(self) -> bytes:
        """JSON whose last member is the sha256 of every byte before that member.

        Raises:
            ValueError: the checkpoint would not read back, such as a layer given twice.
        """
        body = {
            "version": _VERSION,
            "job": self.job,
            "step": self.step,
            "seed": self.seed,
            "created": self.created,
            "config": dict(self.config),
            "config_hash": self.config_hash,
            "fingerprint": dict(self.fingerprint),
            "identity": dict(self.identity),
            "plan": self.plan,
            "generation": self.generation,
            "state_hash": self.state_hash,
            "ledger": self.ledger.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        text = json.dumps(body, indent=1, allow_nan=False).encode().removesuffix(b"\n}")
        data = text + _TRAILER % hashlib.sha256(text).hexdigest().encode()
        Manifest.from_bytes(data)
        return data

    @classmethod
    def from_bytes(cls, data: bytes | bytearray) -> Manifest:
        """The manifest that :meth:`to_bytes` wrote.

        Raises:
            RecordError: any byte is not as it was written, or a member is not as it must be.
        """
        text = data[:-_TRAILER_LENGTH]
        found = hashlib.sha256(text).hexdigest()
        if data[len(text) :] != _TRAILER % found.encode():
            raise RecordError("it is cut short or changed: its sha256 does not match its text")
        record = Record(parse_json(data))
        version = record.number("version")
        if version != _VERSION:
            raise RecordError(f"version: it has format {version}; this program reads {_VERSION}")
        record.text("sha256")
        noted_hash = record.text("config_hash")
        manifest = cls(
            job=record.text("job"),
            step=record.number("step", LARGEST_STEP),
            seed=record.number("seed"),
            created=record.text("created"),
            config=record.mapping("config"),
            fingerprint=record.texts("fingerprint"),
            identity=record.texts("identity"),
            plan=record.text("plan"),
            generation=record.number("generation"),
            layers=tuple(
                LayerFile.from_json(value, f"layers[{index}]")
                for index, value in enumerate(record.items("layers"))
            ),
            state_hash=record.text("state_hash", "[0-9a-f]{32}"),
            ledger=Ledger.from_record(record.record("ledger")),
        )
        record.close()
        manifest._check(noted_hash)
        return manifest

    def _check(self, noted_hash: str) -> None:
        """Members that contradict each other."""
        if not self.layers:
            raise RecordError("layers: it lists no layer")
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            raise RecordError("layers: a layer is listed twice")
        if self.ledger.committed != self.step:
            raise RecordError(
                f"ledger.committed: {self.ledger.committed} steps, but the state has {self.step}"
            )
        if noted_hash != self.config_hash:
            raise RecordError("config_hash: it does not belong to config")
