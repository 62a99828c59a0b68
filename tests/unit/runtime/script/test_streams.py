"""Redirects and tee mean what they mean to torchrun."""

from __future__ import annotations

import pytest
from torch.distributed.elastic.multiprocessing import Std

from ithaca.runtime.script.streams import Routing, Shown, Stream, StreamRule, Streams


@pytest.mark.parametrize("text", ["0", "1", "2", "3", "0:1,1:2", "3:3", "0:0,2:1"])
def test_a_rule_is_read_as_torchrun_reads_it(text: str) -> None:
    rule, theirs = StreamRule.parse(text), Std.from_str(text)
    for rank in range(4):
        expected = theirs.get(rank, Std.NONE) if isinstance(theirs, dict) else theirs
        assert int(rule.of(rank)) == int(expected)


def test_local_ranks_may_have_two_digits() -> None:
    assert StreamRule.parse("10:3").of(10) is Streams.BOTH


@pytest.mark.parametrize("text", ["4", "", "a", "0:4", "0:1,", "1:", "-1", "0;1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no streams"):
        StreamRule.parse(text)


def test_tee_wins_over_redirects_and_the_filter_over_both() -> None:
    routing = Routing(StreamRule.parse("3"), StreamRule.parse("0:1"), frozenset({0, 1}))
    assert routing.shown(0, Stream.OUT) is Shown.PREFIXED
    assert routing.shown(0, Stream.ERR) is Shown.NO
    assert routing.shown(1, Stream.OUT) is Shown.NO
    assert routing.shown(2, Stream.OUT) is Shown.NO
    assert routing.keeps_logs


def test_by_default_everything_is_shown_as_it_is() -> None:
    routing = Routing()
    assert {routing.shown(7, stream) for stream in Stream} == {Shown.PLAIN}
    assert not routing.keeps_logs


def test_needles_belong_to_their_stream() -> None:
    routing = Routing(stdout_needles=("a",), stderr_needles=("b",))
    assert routing.needles(Stream.OUT) == ("a",)
    assert routing.needles(Stream.ERR) == ("b",)
