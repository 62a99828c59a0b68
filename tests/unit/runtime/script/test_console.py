"""The console shows whole lines, and loses nothing."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.script.console import Console
from ithaca.runtime.script.ranks import Output
from ithaca.runtime.script.streams import Stream


def fresh() -> tuple[Console, io.BytesIO, io.BytesIO]:
    out, err = io.BytesIO(), io.BytesIO()
    return Console(out, err), out, err


def test_lines_of_two_ranks_do_not_cut_into_each_other() -> None:
    console, out, _ = fresh()
    console.write([Output(0, Stream.OUT, b"one "), Output(1, Stream.OUT, b"two\n")])
    console.write([Output(0, Stream.OUT, b"line\n")])
    assert out.getvalue() == b"two\none line\n"


def test_a_prompt_is_shown_when_its_rank_pauses_but_a_teed_line_waits() -> None:
    console, out, _ = fresh()
    console.expect({(1, Stream.OUT): "[default1]:"})
    console.write([Output(0, Stream.OUT, b"50 %"), Output(1, Stream.OUT, b"half")])
    console.idle(0)
    console.idle(1)
    assert out.getvalue() == b"50 %"
    console.end()
    assert out.getvalue() == b"50 %[default1]:half\n"


def test_teed_lines_carry_the_prefix_each() -> None:
    console, out, err = fresh()
    console.expect({(0, Stream.ERR): "[d0]:"})
    console.write([Output(0, Stream.ERR, b"a\nb\nc"), Output(0, Stream.OUT, b"plain\n")])
    console.end()
    assert err.getvalue() == b"[d0]:a\n[d0]:b\n[d0]:c\n"
    assert out.getvalue() == b"plain\n"


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(Stream), st.binary(max_size=8)), max_size=30
    )
)
def test_nothing_is_lost_and_the_order_within_a_stream_is_kept(
    pieces: list[tuple[int, Stream, bytes]],
) -> None:
    for rank in range(3):
        mine = [(r, stream, data) for r, stream, data in pieces if r == rank]
        console, out, err = fresh()
        for r, stream, data in mine:
            console.write([Output(r, stream, data)])
        console.end()
        for stream, file in ((Stream.OUT, out), (Stream.ERR, err)):
            assert file.getvalue() == b"".join(data for _, s, data in mine if s is stream)


def test_a_reader_that_is_gone_is_told() -> None:
    class Gone(io.BytesIO):
        def write(self, data: object) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Console(Gone(), io.BytesIO()).write([Output(0, Stream.OUT, b"x\n")])
