"""``csrc/hash.cpp`` once more, slow and plain: arithmetic on Python's integers."""

from __future__ import annotations

from math import isqrt

WORD = 2**64
BLOCK, CELL = 64, 16
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
ROOTS = tuple(isqrt(prime << 128) % WORD for prime in PRIMES)
FIRST, SECOND = ROOTS[1], ROOTS[3]
START = ROOTS[4:]

State = tuple[int, int]


def fold(a: int, b: int) -> int:
    """Exclusive or of the two halves of the 128-bit product."""
    return (a * b) % WORD ^ (a * b) // WORD


def stir(state: State) -> State:
    """Two Feistel rounds."""
    x, y = state
    y = (y + fold(x, FIRST)) % WORD
    x = (x + fold(y, SECOND)) % WORD
    return x, y


def unstir(state: State) -> State:
    """The inverse of :func:`stir`, which exists for every state."""
    x, y = state
    x = (x - fold(y, SECOND)) % WORD
    y = (y - fold(x, FIRST)) % WORD
    return x, y


def hash128(data: bytes, seed: int = 0) -> int:
    """The 128-bit hash of ``data`` under the 64-bit ``seed``."""
    lanes = [(START[2 * i] ^ seed, START[2 * i + 1]) for i in range(4)]
    padded = data + bytes(-len(data) % BLOCK)
    for at in range(0, len(padded), CELL):
        lane = at % BLOCK // CELL
        a = int.from_bytes(padded[at : at + 8], "little")
        b = int.from_bytes(padded[at + 8 : at + 16], "little")
        lanes[lane] = stir((lanes[lane][0] ^ a, lanes[lane][1] ^ b))
    x, y = stir((len(data), seed))
    for lane_x, lane_y in lanes:
        x, y = stir(stir((x ^ lane_x, y ^ lane_y)))
    return x + y * WORD
