"""One hash of named ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.engine.state_hash import combine

NAMED = {"b.weight": 7, "a.weight": 2**128 - 1, "a.bias": 0}


def test_combining_is_free_of_order() -> None:
    backwards = dict(reversed(NAMED.items()))
    assert list(backwards) != list(NAMED)
    assert combine(backwards) == combine(NAMED)
    assert len(combine(NAMED)) == 32


def test_combining_tells_names_and_hashes_apart() -> None:
    swapped = NAMED | {"b.weight": NAMED["a.bias"], "a.bias": NAMED["b.weight"]}
    fewer = {name: NAMED[name] for name in list(NAMED)[:2]}
    assert len({combine(named) for named in (NAMED, swapped, fewer, {})}) == 4


@given(st.dictionaries(st.text(), st.integers(0, 2**128 - 1), min_size=1), st.data())
def test_combining_notices_any_one_hash(named: dict[str, int], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(named)))
    bit = data.draw(st.integers(0, 127))
    assert combine(named | {name: named[name] ^ 1 << bit}) != combine(named)


@pytest.mark.parametrize("wrong", [-1, 2**128])
def test_only_128_bits_are_combined(wrong: int) -> None:
    with pytest.raises(ValueError, match="'layer' is not a number of 128 bits"):
        combine({"layer": wrong})
