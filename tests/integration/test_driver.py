"""The driver as a process of its own: signals, its death, a dead worker, the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ithaca.runtime.events import Event, RunEnded, StepDone, WorkerFailed, WorkerJoined
from ithaca.runtime.log import read
from tests.helpers.driven import has_torch
from tests.helpers.real_job import write_job

pytestmark = [pytest.mark.xdist_group("driver"), pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
BOUND_S = 100.0


def until(what: Callable[[], bool], why: str) -> None:
    """Wait for something that another process does; fail with ``why`` behind the bound."""
    deadline = time.monotonic() + BOUND_S
    while not what():
        assert time.monotonic() < deadline, f"{why} did not happen within {BOUND_S:g} s"
        time.sleep(0.05)


class Driver:
    """``ithaca run`` in ``folder``, in a session of its own like a terminal's."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.run_folder = folder / "run"
        self.job = write_job(
            folder,
            layout={"pipelines": 1, "stages": 2},
            steps=100_000,
            checkpoint={"every": 0},
            validation={"every": 0},
            optimizer={"schedule": "constant"},
            report={"hash_every": 0},
        )
        self.words = ["run", str(self.job), f"folder={self.run_folder}", *words]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ithaca", *self.words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            start_new_session=True,
        )

    def events(self) -> list[Event]:
        """The log so far; a line being written is left out."""
        path = self.run_folder / "events.jsonl"
        return read(path) if path.exists() and path.stat().st_size else []

    def trains(self) -> bool:
        """Whether a few steps were committed."""
        assert self.process.poll() in (None, 0), self.process.communicate()[0]
        return any(isinstance(event, StepDone) and event.step >= 3 for event in self.events())

    def workers(self) -> list[int]:
        """Process ids."""
        return [event.pid for event in self.events() if isinstance(event, WorkerJoined)]

    def end(self) -> tuple[int, str]:
        """Exit code and everything that was printed."""
        output, _ = self.process.communicate(timeout=BOUND_S)
        return self.process.returncode, output


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Starts drivers; whatever they leave running is killed at the end."""
    drivers: list[Driver] = []

    def begin(*words: str) -> Driver:
        drivers.append(Driver(tmp_path, *words))
        return drivers[-1]

    yield begin
    for driver in drivers:
        if driver.process.poll() is None:
            os.killpg(driver.process.pid, signal.SIGKILL)
        driver.process.communicate()


def status(pid: int) -> list[str]:
    """State, parent and more of a process; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    return status(pid)[:1] not in ([], ["Z"])


def controller_beside(worker: int) -> int:
    """The process of the controller that the daemon of this worker's node started."""
    daemon = status(worker)[1]
    (found,) = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit()
        and status(int(path.name))[1:2] == [daemon]
        and (path / "cmdline").read_bytes().startswith(b"ray::ControllerProcess")
    ]
    return found


def test_ctrl_c_finishes_the_step_and_tells_how_to_go_on(start: Callable[..., Driver]) -> None:
    driver = start("faults=[]")
    until(driver.trains, "training")
    # A terminal sends Ctrl-C to the whole foreground group.
    os.killpg(driver.process.pid, signal.SIGINT)
    code, output = driver.end()
    assert code == 0, output
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith(f"to go on: ithaca run {driver.job}")
    assert output.splitlines()[-1].endswith(f"folder={driver.run_folder} --resume")
    assert " 'faults=[]' " in output.splitlines()[-1], "a shell would take it for a pattern"
    last = driver.events()[-1]
    assert isinstance(last, RunEnded)
    assert last.outcome == "drained"
    assert (driver.run_folder / "checkpoints" / f"step-{last.step:08d}").is_dir()
    assert (driver.run_folder / "report.html").exists()


def test_a_killed_driver_leaves_no_process(start: Callable[..., Driver]) -> None:
    driver = start()
    until(driver.trains, "training")
    workers = driver.workers()
    controller = controller_beside(workers[0])
    everybody = [controller, *workers]
    # Who waits for a controller, or for a new one, does not wait for torch.
    assert [has_torch(pid) for pid in everybody] == [False, True, True]
    driver.process.kill()
    until(lambda: not any(map(alive, everybody)), "the end of the workers")


def test_a_killed_worker_is_the_first_cause(start: Callable[..., Driver]) -> None:
    driver = start()
    until(driver.trains, "training")
    os.kill(driver.workers()[1], signal.SIGKILL)
    code, output = driver.end()
    assert code == 1, output
    (failure,) = [event for event in driver.events() if isinstance(event, WorkerFailed)]
    assert failure.worker == 1
    assert "first cause: worker 1 (rank 1" in output
    assert "died" in output


def test_a_detached_run_outlives_its_terminal(start: Callable[..., Driver]) -> None:
    driver = start("--detach")
    code, output = driver.end()
    assert code == 0, output
    until(driver.trains, "training")
    command = [sys.executable, "-m", "ithaca", "drain", str(driver.run_folder), "--wait"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    subprocess.run(command, check=True, timeout=BOUND_S, env=environment, cwd=ROOT)
    last = driver.events()[-1]
    assert isinstance(last, RunEnded)
    assert last.outcome == "drained"
    until(lambda: not any(map(alive, driver.workers())), "the end of the workers")
