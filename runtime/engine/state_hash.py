"""One hash of a whole state from those of its tensors; it needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

BITS = 128
"""Width of every hash here."""


def combine(named: Mapping[str, int]) -> str:
    """One hash of many, as 32 hex digits: it follows from the set of (name, hash) pairs.

    The order in which ``named`` was filled does not count. Names may hold any character.

    Raises:
        ValueError: a hash is not a number of 128 bits.
    """
    total = hashlib.blake2b(digest_size=BITS // 8)
    for name in sorted(named):
        if not 0 <= named[name] < 1 << BITS:
            raise ValueError(f"the hash of {name!r} is not a number of {BITS} bits: {named[name]}")
        encoded = name.encode()
        total.update(len(encoded).to_bytes(8, "little") + encoded)
        total.update(named[name].to_bytes(BITS // 8, "little"))
    return total.hexdigest()
