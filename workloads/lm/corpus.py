"""The text as bytes, split by file into a part to train on and a part to validate with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ithaca.workloads.lm.config import DataConfig
from ithaca.workloads.lm.source import documents

END = 0
"""The byte that stands after every document; text files have no zero byte."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The documents of one split, one after the other, each ended by a zero byte.

    Attributes:
        names: of the documents, in order.
        text: their bytes, uint8 [n].
    """

    names: tuple[str, ...]
    text: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Both parts; no document is in both."""

    train: Part
    validation: Part

    def fingerprint(self) -> dict[str, str]:
        """sha256 and size of each part, for the manifest of a checkpoint."""
        parts = (("train", self.train), ("validation", self.validation))
        result = {}
        for name, part in parts:
            result[f"{name}_sha256"] = sha256(part.text.data).hexdigest()
            result[f"{name}_bytes"] = str(len(part.text))
            result[f"{name}_documents"] = str(len(part.names))
        return result


def read_corpus(config: DataConfig) -> Corpus:
    """Reads, splits and cuts the documents; the same on every machine that has the same files.

    A document's part follows from the hash of its name alone; if none of two or more falls to
    validation, the one with the smallest hash does. Under ``max_bytes`` both parts shrink alike,
    and which documents stay follows from their names' hashes, too.

    Raises:
        ValueError: no data, or none for one of the two parts.
    """
    found = documents(config)
    held_back = _held_back([name for name, _ in found], config.validation_fraction)
    train_limit = validation_limit = None
    if config.max_bytes is not None:
        validation_limit = round(config.max_bytes * config.validation_fraction)
        train_limit = config.max_bytes - validation_limit
    train = _part([d for d in found if d[0] not in held_back], train_limit)
    validation = _part([d for d in found if d[0] in held_back], validation_limit)
    if len(found) < 2:
        raise ValueError(
            f"the data has one text file only ({found[0][0]}), which leaves none for validation; "
            "the text is split by file, so give at least two files"
        )
    return Corpus(train, validation)


def _hash(name: str, use: str) -> float:
    """A number in [0, 1) that depends on the document's name and the use alone."""
    digest = sha256(f"{use}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _held_back(names: Sequence[str], fraction: float) -> set[str]:
    """The names of the documents for validation: never all, and one at least of two or more."""
    ordered = sorted(names, key=lambda name: (_hash(name, "split"), name))
    below = sum(_hash(name, "split") < fraction for name in ordered)
    return set(ordered[: min(max(below, 1), len(ordered) - 1)])


def _part(found: Sequence[tuple[str, bytes]], limit: int | None) -> Part:
    """The documents joined in the order of their hashes, cut at ``limit`` bytes."""
    names, pieces, size = [], [], 0
    for name, content in sorted(found, key=lambda d: (_hash(d[0], "order"), d[0])):
        if limit is not None and size >= limit:
            break
        names.append(name)
        pieces.append(content + bytes([END]))
        size += len(pieces[-1])
    text = np.frombuffer(b"".join(pieces)[:limit], dtype=np.uint8)
    return Part(tuple(names), text)
