"""A run folder's control plane from its first to its last moment, and the commands that use it."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ithaca.runtime.cli.main import main
from ithaca.runtime.control.client import connect
from ithaca.runtime.control.credentials import FILE, Credentials
from ithaca.runtime.control.feed import EventFeed, FeedSlice
from ithaca.runtime.control.plane import ControlPlane
from ithaca.runtime.control.trouble import ControlError, Trouble
from ithaca.runtime.events import RunEnded, Warned

if TYPE_CHECKING:
    from tests.unit.runtime.control.conftest import NotedRun

WAIT_S = 20.0


def plane(noted: NotedRun, folder: Path) -> ControlPlane:
    return ControlPlane.open(noted, folder, pid=99, started=1.7e9)


def ithaca(*words: str) -> int:
    """The exit code of ``ithaca WORDS``."""
    return main(words)


def test_the_file_is_there_while_the_run_is(noted: NotedRun, tmp_path: Path) -> None:
    with plane(noted, tmp_path) as opened:
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
        assert Credentials.read(tmp_path) == opened.credentials
        with connect(tmp_path) as client:
            assert client.status().name == "quick"
    assert not list(tmp_path.iterdir())
    with pytest.raises(ControlError, match="is not running"):
        connect(tmp_path)


def test_a_file_left_behind_is_said_to_be_so(noted: NotedRun, tmp_path: Path) -> None:
    with plane(noted, tmp_path):
        left = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(left)
    with pytest.raises(
        ControlError, match=r"It was process 99 and left its control.json"
    ) as caught:
        connect(tmp_path)
    assert caught.value.trouble is Trouble.UNREACHABLE


def test_a_file_left_behind_whose_port_another_run_has_now(noted: NotedRun, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    with plane(noted, old):
        left = Credentials.read(old)
    port = int(left.address.rsplit(":", 1)[1])
    with ControlPlane.open(noted, new, pid=100, started=1.8e9, port=port):
        left.write(old)
        with pytest.raises(ControlError, match="refused the token") as caught:
            connect(old)
    assert caught.value.trouble is Trouble.REFUSED
    assert noted.calls == 0


def test_a_folder_that_cannot_be_written_leaves_no_server(noted: NotedRun, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        plane(noted, tmp_path / "nowhere")


def test_status_for_people(
    noted: NotedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with plane(noted, tmp_path):
        assert ithaca("status", str(tmp_path)) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "quick  training  step 7/40  loss 2.5000  1.23k terms/s"
    assert "checkpoint: none yet  generation 3" in lines[1]
    assert lines[2] == "  pipeline 0-3 0:4@w0"
    assert " ".join(lines[4].split()) == "w0 node-a 101 running 7 0.5 s ago F s0 m1 for 0.2 s"
    assert " ".join(lines[5].split()) == "w1 node-b 102 starting - never -"
    assert err == ""


def test_status_for_programs(
    noted: NotedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with plane(noted, tmp_path) as opened:
        assert ithaca("status", str(tmp_path), "--json") == 0
    out = capsys.readouterr().out
    status = json.loads(out)
    assert (status["name"], status["workers"][1]["age_s"]) == ("quick", None)
    assert opened.credentials.token not in out


def test_status_follows_the_events_to_the_end(
    noted: NotedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"event": number}) for number in range(600)]
    for line in lines:
        noted.events.append(line)
    noted.events.close()
    with plane(noted, tmp_path):
        assert ithaca("status", str(tmp_path), "--json", "--follow") == 0
    out = capsys.readouterr().out.splitlines()
    assert json.loads(out[0])["step"] == 7
    assert out[1:] == lines


def test_status_shows_people_the_progress_and_what_it_does_not_understand(
    noted: NotedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noted.events = EventFeed(capacity=3)
    for event in (
        Warned(time_s=1.0, message="too old to be kept"),
        Warned(time_s=2.0, message="disk is slow"),
        RunEnded(time_s=3.0, outcome="drained", step=7, reason="asked to"),
    ):
        noted.events.append(event.to_json())
    noted.events.append('{"kind": "of tomorrow"}')
    noted.events.close()
    with plane(noted, tmp_path):
        assert ithaca("status", str(tmp_path), "--follow") == 0
    out, err = capsys.readouterr()
    assert "warning: disk is slow" in out
    assert "drained after 7 of 40 steps" in out
    assert "of tomorrow" in out
    assert "too old" not in out
    assert "1 earlier events are not shown" in err


def test_a_run_that_goes_away_is_not_taken_for_one_that_ended(
    noted: NotedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = plane(noted, tmp_path)
    read = noted.events.read
    reads: list[int] = []

    def dying(first: int, *args: float, **kwargs: object) -> FeedSlice:
        reads.append(first)
        if len(reads) == 2:
            closing.start()
        return read(first, *args, **kwargs)  # type: ignore[arg-type]

    closing = threading.Thread(target=opened.close)
    noted.events.read = dying  # type: ignore[method-assign, assignment]
    assert ithaca("status", str(tmp_path), "--follow") == 2
    closing.join(WAIT_S)
    assert "went away without saying that the run ended" in capsys.readouterr().err


def test_drain_is_asked_once_and_then_under_way(
    noted: NotedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with plane(noted, tmp_path):
        assert ithaca("drain", str(tmp_path)) == 0
        assert ithaca("drain", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "the run will stop after this step",
        "the run is stopping already",
    ]


def test_drain_waits_for_the_end(
    noted: NotedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = plane(noted, tmp_path)
    asked = threading.Event()
    request = noted.request_drain

    def drained() -> bool:
        asked.set()
        return request()

    noted.request_drain = drained  # type: ignore[method-assign]

    def end() -> None:
        assert asked.wait(WAIT_S)
        noted.events.append("{}")
        noted.events.close()
        opened.close(grace_s=5.0)

    ending = threading.Thread(target=end)
    ending.start()
    assert ithaca("drain", str(tmp_path), "--wait", str(WAIT_S)) == 0
    ending.join(WAIT_S)
    assert capsys.readouterr().out.splitlines()[-1] == "the run has ended"


def test_drain_says_when_the_run_did_not_end_in_time(
    noted: NotedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with plane(noted, tmp_path):
        assert ithaca("drain", str(tmp_path), "--wait", "0.2") == 1
    assert "did not end within 0.2 s" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "drain"])
def test_no_run_is_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    stale = tmp_path / "stale"
    stale.mkdir()
    Credentials("127.0.0.1:9", "x" * 43, 1, 1.0).write(stale)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / FILE).write_text("{")
    for folder in (tmp_path / "nowhere", tmp_path, stale, damaged):
        assert ithaca(command, str(folder)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith("ithaca: ")


def test_a_wrong_time_is_a_usage_error(tmp_path: Path) -> None:
    for text in ("0", "-1", "nan", "inf", "soon"):
        assert ithaca("status", str(tmp_path), "--timeout", text) == 2
