"""Random numbers follow from seed, step, micro-batch and layer, and from nothing else."""

from __future__ import annotations

from itertools import product
from random import Random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.runtime.engine.randomness import Randomness, derive

CPU = torch.device("cpu")
Key = tuple[int, int, int]
"""Step, micro-batch, layer."""
IDS = st.tuples(st.integers(0, 10_000), st.integers(0, 4095), st.integers(0, 255))


def draw(randomness: Randomness, key: Key) -> tuple[float, ...]:
    """What a forward under ``key`` draws first."""
    randomness.forward(*key)
    return tuple(torch.rand(4, dtype=torch.float64).tolist())


@settings(max_examples=60, deadline=None)
@given(IDS, IDS, st.integers(0, 2**31))
def test_two_keys_draw_differently(one: Key, other: Key, seed: int) -> None:
    randomness = Randomness(seed, CPU)
    assert (draw(randomness, one) == draw(randomness, other)) == (one == other)


@settings(max_examples=60, deadline=None)
@given(IDS, st.integers(0, 2**31), st.integers(0, 2**31))
def test_two_seeds_draw_differently(key: Key, one: int, other: int) -> None:
    drawn = [draw(Randomness(seed, CPU), key) for seed in (one, other)]
    assert (drawn[0] == drawn[1]) == (one == other)


def test_the_order_does_not_count() -> None:
    keys = list(product(range(2), range(4), range(3)))
    randomness = Randomness(5, CPU)
    in_order = {key: draw(randomness, key) for key in keys}
    assert len(set(in_order.values())) == len(keys)
    Random(0).shuffle(keys)
    torch.rand(3)
    assert {key: draw(randomness, key) for key in keys} == in_order
    assert draw(Randomness(5, CPU), (1, 2, 1)) == in_order[1, 2, 1]


def test_no_two_of_a_large_step_share_a_stream() -> None:
    """torch's generator on the CPU reads the lower 32 bits of its seed only."""
    randomness = Randomness(1, CPU)
    seeds = set()
    for micro_batch, layer in product(range(0, 1024, 3), range(0, 128, 5)):
        randomness.forward(7, micro_batch, layer)
        seeds.add(torch.default_generator.initial_seed() % 2**32)
    assert len(seeds) == len(range(0, 1024, 3)) * len(range(0, 128, 5))


def test_weights_follow_from_the_layer() -> None:
    randomness = Randomness(1, CPU)
    drawn = []
    for layer in (0, 1, 0):
        randomness.weights(layer)
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[2] != drawn[1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**62), st.lists(st.text() | st.integers(), max_size=3))
def test_derived_seeds_fit_and_repeat(seed: int, path: list[str | int]) -> None:
    assert 0 <= derive(seed, *path) < 2**63
    assert derive(seed, *path) == derive(seed, *path) != derive(seed, *path, "x")


def test_derived_seeds_are_those_of_every_other_machine() -> None:
    assert derive(0, "weights", 3) == DERIVED


DERIVED = 1825557784544115543
