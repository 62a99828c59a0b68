"""Real processes of one node, without Ray: output, exits, signals, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ithaca.runtime.script.contract import Place
from ithaca.runtime.script.ranks import (
    Observation,
    RankExit,
    RankOrder,
    RankProcesses,
    Warden,
    lives,
)
from ithaca.runtime.script.streams import Shown, Stream

PATIENCE_S = 20.0
SHOWN = dict.fromkeys(Stream, Shown.PLAIN)
SOURCES = Path(__file__).parents[4] / "src"


@pytest.fixture
def warden() -> Iterator[Warden]:
    """A warden that ends with the test."""
    made = Warden()
    yield made
    made.close()


def order(folder: Path, script: str, rank: int = 0, world: int = 1) -> RankOrder:
    """A shell script as a rank."""
    place = Place(rank, world, rank, world, 0, 1)
    logs = folder / "attempt_0" / str(rank)
    logs.mkdir(parents=True)
    environment = {"PATH": os.environ["PATH"], "RANK": str(rank)}
    needles: dict[Stream, tuple[str, ...]] = dict.fromkeys(Stream, ())
    return RankOrder(place, ("sh", "-c", script), environment, logs, SHOWN, "", needles)


def watch(
    processes: RankProcesses, until: Callable[[Observation], bool] | None = None
) -> tuple[bytes, list[RankExit]]:
    """What is written and who exits, until all is done or ``until`` says so."""
    end = time.monotonic() + PATIENCE_S
    written = b""
    exits: list[RankExit] = []
    while time.monotonic() < end:
        seen = processes.observe(0.2)
        written += b"".join(output.data for output in seen.outputs)
        exits += seen.exits
        if seen.done or (until is not None and until(seen)):
            return written, exits
    raise AssertionError(f"not done after {PATIENCE_S} s: {written!r}, {exits}")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def gone(pid: int, patience_s: float = PATIENCE_S) -> bool:
    """Whether the process ends in time."""
    end = time.monotonic() + patience_s
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_alive(pid)


def test_output_and_exits_are_told_and_logged(tmp_path: Path, warden: Warden) -> None:
    orders = [
        order(tmp_path, "echo rank $RANK; echo bad >&2; exit $RANK", rank, 2) for rank in (0, 1)
    ]
    processes = RankProcesses(orders, tmp_path, warden)
    written, exits = watch(processes)
    processes.close(1.0)
    assert sorted(written.split()) == [b"0", b"1", b"bad", b"bad", b"rank", b"rank"]
    by_rank = {end.place.rank: end for end in exits}
    assert (by_rank[0].code, by_rank[1].code) == (0, 1)
    assert (by_rank[0].stderr, by_rank[1].stderr) == ("", "bad\n")
    assert (tmp_path / "attempt_0/1/stdout.log").read_text() == "rank 1\n"
    assert (tmp_path / "attempt_0/1/stderr.log").read_text() == "bad\n"


def test_a_signal_that_ends_a_rank_is_its_code(tmp_path: Path, warden: Warden) -> None:
    processes = RankProcesses([order(tmp_path, "kill -SEGV $$")], tmp_path, warden)
    _, [end] = watch(processes)
    processes.close(1.0)
    assert end.code == -signal.SIGSEGV


def test_much_output_at_the_end_is_not_lost(tmp_path: Path, warden: Warden) -> None:
    script = "i=0; while [ $i -lt 9 ]; do head -c 100000 /dev/zero; i=$((i+1)); done; echo end"
    processes = RankProcesses([order(tmp_path, script)], tmp_path, warden)
    written, _ = watch(processes)
    processes.close(1.0)
    assert len(written) == 900_000 + 4
    assert written.endswith(b"end\n")


def test_a_rank_gets_a_clean_process(tmp_path: Path, warden: Warden) -> None:
    """Blocked signals, ignored signals and a Ray worker's session are not handed down."""
    script = "cat /proc/self/status; cat"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        processes = RankProcesses([order(tmp_path, script)], tmp_path, warden)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    written, _ = watch(processes)
    processes.close(1.0)
    fields = dict(line.split(":", 1) for line in written.decode().splitlines())
    assert int(fields["SigBlk"], 16) == 0
    # The signals with names; those above belong to the C library. What a shell has its background
    # jobs ignore, or nohup, stays so: that is what they are for.
    kept = [s for s in (signal.SIGHUP, signal.SIGQUIT) if signal.getsignal(s) is signal.SIG_IGN]
    allowed = sum(1 << (number - 1) for number in kept)
    assert int(fields["SigIgn"], 16) & 0x7FFFFFFF & ~allowed == 0


def test_children_that_a_rank_leaves_are_ended(tmp_path: Path, warden: Warden) -> None:
    script = "(trap '' TERM; sleep 1000) & echo $!; sleep 1000 & echo $!; echo $$"
    processes = RankProcesses([order(tmp_path, script)], tmp_path, warden)
    written, [end] = watch(processes)
    assert end.code == 0
    pids = {int(word) for word in written.split()}
    assert len(pids) == 3
    processes.close(1.0)
    assert not lives(end.pid), "close waits for what it has killed"
    assert not any(map(is_alive, pids))


def test_signals_reach_the_whole_group(tmp_path: Path, warden: Warden) -> None:
    script = "sleep 1000 & echo $!; wait"
    processes = RankProcesses([order(tmp_path, script)], tmp_path, warden)
    written, _ = watch(processes, until=lambda seen: bool(seen.outputs))
    processes.signal(signal.SIGTERM)
    _, [end] = watch(processes)
    assert end.code == -signal.SIGTERM
    assert gone(int(written))
    processes.close(1.0)


def test_teed_lines_with_a_needle_are_copied(tmp_path: Path, warden: Warden) -> None:
    base = order(tmp_path, "echo loss 1; echo other; echo loss 2 >&2")
    teed = RankOrder(
        base.place,
        base.command,
        base.environment,
        base.folder,
        dict.fromkeys(Stream, Shown.PREFIXED),
        "[d0]:",
        {Stream.OUT: ("loss",), Stream.ERR: ()},
    )
    processes = RankProcesses([teed], tmp_path, warden)
    watch(processes)
    processes.close(1.0)
    assert (tmp_path / "attempt_0/filtered_stdout.log").read_text() == "[d0]:loss 1\n"
    assert not (tmp_path / "attempt_0/filtered_stderr.log").exists()


def test_a_missing_program_ends_the_rank_with_127(tmp_path: Path, warden: Warden) -> None:
    base = order(tmp_path, "")
    missing = RankOrder(
        base.place, ("nixda",), base.environment, base.folder, SHOWN, "", base.needles
    )
    processes = RankProcesses([missing], tmp_path, warden)
    _, [end] = watch(processes)
    processes.close(1.0)
    assert end.code == 127
    assert "cannot execute 'nixda'" in end.stderr


AGENT = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from ithaca.runtime.script import ranks
from tests.unit.runtime.script.test_rank_processes import order, watch
if sys.argv[4] == "without":
    ranks._CHILD = Path(sys.argv[3]) / "child.py"
    ranks._CHILD.write_text("import os, sys; os.execvp(sys.argv[2], sys.argv[2:])")
    ranks.Warden.add = lambda self, group: None
folder = Path(sys.argv[3])
script = "sleep 1000 & echo $!; echo $$; wait"
processes = ranks.RankProcesses([order(folder, script)], folder, ranks.Warden())
written, _ = watch(processes, until=lambda seen: len(seen.outputs[0].data.split()) == 2)
print(written.decode(), flush=True)
watch(processes)
"""


@pytest.mark.parametrize("protection", ["with", "without"])
def test_a_killed_agent_takes_its_ranks_and_their_children_along(
    tmp_path: Path, protection: str
) -> None:
    """The control, without death signal and warden, shows that orphans would be seen."""
    root = str(SOURCES.parent)
    command = [sys.executable, "-c", AGENT, str(SOURCES), root, str(tmp_path), protection]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        pids = [int(agent.stdout.readline()) for _ in range(2)]
        agent.kill()
    if protection == "with":
        assert all(gone(pid) for pid in pids)
    else:
        assert not any(gone(pid, patience_s=0.3) for pid in pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_a_rank_that_cannot_be_made_leaves_no_other(
    tmp_path: Path, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [order(tmp_path, "sleep 1000", rank, 2) for rank in (0, 1)]
    made: list[int] = []
    start: Any = subprocess.Popen

    def second_fails(*args: object, **options: object) -> object:
        if made:
            raise OSError("no more processes")
        process = start(*args, **options)
        made.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", second_fails)
    with pytest.raises(OSError, match="no more"):
        RankProcesses(orders, tmp_path, warden)
    assert gone(made[0])
