"""What torch may reserve on a GPU while a session is open there."""

from __future__ import annotations

from ithaca.swap.device import most_reserved

GIB, MIB = 1 << 30, 1 << 20


def test_two_percent_above_a_large_budget() -> None:
    assert most_reserved(100 * GIB, 0) == 102 * GIB


def test_a_small_budget_has_room_for_torchs_pieces() -> None:
    assert most_reserved(GIB, 0) == GIB + 64 * MIB


def test_what_cannot_be_given_back_comes_on_top() -> None:
    assert most_reserved(GIB, 200 * MIB) == GIB + 264 * MIB
