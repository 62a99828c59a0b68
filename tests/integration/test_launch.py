"""Script mode: unmodified torchrun scripts on Ray."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ithaca.runtime.cli.main import main
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.script.console import Console
from ithaca.runtime.script.launch import Outcome, launch
from ithaca.runtime.script.ranks import Output
from ithaca.runtime.script.spec import Command, Form, LaunchError, LaunchSpec, NodeRange
from ithaca.runtime.script.streams import Routing, StreamRule

pytestmark = pytest.mark.xdist_group("ray")

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests/helpers/scripts"
PATIENCE_S = 60.0
ALL_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Screen(Console):
    """A console that remembers, and that acts once when ``expected`` has been shown so often."""

    def __init__(
        self, expected: bytes = b"", times: int = 1, act: Callable[[], None] | None = None
    ) -> None:
        self.out, self.err = io.BytesIO(), io.BytesIO()
        self._wait = None if act is None else (expected, times, act)
        super().__init__(self.out, self.err)

    def write(self, outputs: Iterable[Output]) -> None:
        """Shows, and acts."""
        super().write(outputs)
        if self._wait is not None:
            expected, times, act = self._wait
            if self.out.getvalue().count(expected) >= times:
                self._wait = None
                act()

    @property
    def lines(self) -> list[str]:
        """What was written to stdout."""
        return self.out.getvalue().decode().splitlines()


def spec(script: str, *arguments: object, **options: Any) -> LaunchSpec:  # noqa: ANN401
    """A launch of two ranks of a script in tests/helpers/scripts."""
    words = tuple(str(argument) for argument in arguments)
    shell = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    return LaunchSpec(
        **{
            "command": Command(Form.SCRIPT, str(SCRIPTS / script), words),
            "ranks_per_node": 2,
            "environment": shell,
            "shutdown_timeout_s": 10.0,
            "monitor_interval_s": 0.05,
            "signals": ALL_SIGNALS,
            **options,
        }
    )


def run(spec: LaunchSpec, cluster: Cluster) -> tuple[Outcome, Screen]:
    """Launches, with what was shown."""
    screen = Screen()
    return launch(spec, cluster, screen), screen


def read_losses(folder: Path) -> list[list[float]]:
    """The losses of ranks 0 and 1, by step."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def read_environments(folder: Path, world: int) -> list[dict[str, str]]:
    """The variables of each rank."""
    files = [folder / f"environment_{rank}.json" for rank in range(world)]
    return [json.loads(file.read_text()) for file in files]


def all_gone(pids: Iterable[int]) -> bool:
    """Whether the processes end in time; zombies have ended."""
    end = time.monotonic() + PATIENCE_S
    left = list(pids)
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = [pid for pid in left if _runs(pid)]
    return not left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started(lines: Iterable[str]) -> list[int]:
    """The process ids that the waiting ranks told."""
    words = [line.split() for line in lines if line.startswith("up ")]
    return [int(word) for line in words for word in line[1:]]


def test_ddp_reaches_the_losses_and_finds_the_variables_of_torchrun(
    ray_cluster: Cluster, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    arguments = (SCRIPTS / "ddp.py", "--steps", 4, "--out")
    wrapped = ("show_environment.py", ours, *arguments, ours)
    outcome, _ = run(spec(*wrapped, max_restarts=2, run_id="same"), ray_cluster)
    assert outcome == Outcome(0)
    words = ["--nproc-per-node=2", "--max-restarts=2", "--rdzv-id=same", "--rdzv-backend=c10d"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *words]
    command = [*torchrun, SCRIPTS / "show_environment.py", theirs, *arguments, theirs]
    shell = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    subprocess.run([str(w) for w in command], env=shell, check=True, capture_output=True)
    assert read_losses(ours) == read_losses(theirs)
    assert read_losses(ours)[0] != read_losses(ours)[1]
    free = {"MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_USE_AGENT_STORE"}
    for mine, torchruns in zip(
        read_environments(ours, 2), read_environments(theirs, 2), strict=True
    ):
        assert mine.keys() - torchruns.keys() == {"NODE_RANK"}
        assert torchruns.keys() <= mine.keys()
        assert {k: v for k, v in torchruns.items() if k not in free} == {
            k: v for k, v in mine.items() if k not in free | {"NODE_RANK"}
        }


def zero2_alone(steps: int, shards: int) -> list[list[float]]:
    """What zero2.py computes, in one process: AdamW on the mean gradient of ``shards`` ranks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs = torch.randn(8, 16)
    targets = inputs.sum(dim=1, keepdim=True)
    losses: list[list[float]] = [[], []]
    for _ in range(steps):
        optimizer.zero_grad()
        for rank in (0, 1):
            loss = nn.functional.mse_loss(model(inputs[rank::2]), targets[rank::2])
            losses[rank].append(loss.item())
            if rank < shards:
                (loss / shards).backward()
        optimizer.step()
    return losses


def test_deepspeed_zero2_trains_as_one_process_would(ray_cluster: Cluster, tmp_path: Path) -> None:
    shell = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DS_ACCELERATOR": "cpu"}
    made = spec("zero2.py", "--steps", 4, "--out", tmp_path, environment=shell)
    outcome, screen = run(made, ray_cluster)
    assert outcome == Outcome(0), screen.err.getvalue().decode()
    reached = torch.tensor(read_losses(tmp_path))
    torch.testing.assert_close(reached, torch.tensor(zero2_alone(4, shards=2)))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(reached, torch.tensor(zero2_alone(4, shards=1)))


def test_ranks_are_numbered_over_nodes(ray_cluster: Cluster, tmp_path: Path) -> None:
    made = spec("show_environment.py", tmp_path, nodes=NodeRange(2, 2), role="trainer")
    assert run(made, ray_cluster)[0] == Outcome(0)
    found = read_environments(tmp_path, 4)
    names = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    assert [[int(values[name]) for name in names] for values in found] == [
        [0, 0, 0, 0, 4, 2],
        [1, 1, 0, 0, 4, 2],
        [2, 0, 1, 1, 4, 2],
        [3, 1, 1, 1, 4, 2],
    ]
    assert {values["ROLE_NAME"] for values in found} == {"trainer"}
    assert len({(values["MASTER_ADDR"], values["MASTER_PORT"]) for values in found}) == 1
    assert not any(name.startswith("RAY_") for values in found for name in values)


def test_the_first_failure_is_reported_after_the_last_restart(
    ray_cluster: Cluster, tmp_path: Path
) -> None:
    made = spec("misbehave.py", "raise", max_restarts=1, log_folder=tmp_path, run_id="r")
    outcome, screen = run(made, ray_cluster)
    assert outcome.code == 1
    assert outcome.report.endswith("ValueError: the first cause")
    assert "in fail_inside" in outcome.report
    assert "1 of 2 ranks failed in attempt 2" in outcome.report
    assert f"logs: {tmp_path}/r/attempt_1/1" in outcome.report
    begins = [line.split()[1:] for line in screen.lines if line.startswith("begin")]
    assert sorted(words[:2] for words in begins) == [
        [rank, attempt] for rank in "01" for attempt in "01"
    ]
    assert len({words[2] for words in begins}) == 2, "every attempt has a port of its own"
    assert "restart 1 of 1" in screen.err.getvalue().decode()
    for attempt in (0, 1):
        logs = tmp_path / f"r/attempt_{attempt}"
        assert (logs / "0/stdout.log").read_text().startswith(f"begin 0 {attempt}")
        assert "the first cause" in (logs / "1/stderr.log").read_text()
    assert all_gone(started(screen.lines))


def test_a_restart_may_succeed_and_logs_are_not_overwritten(
    ray_cluster: Cluster, tmp_path: Path
) -> None:
    made = spec("misbehave.py", "raise-once", max_restarts=3, log_folder=tmp_path, run_id="r")
    for _ in range(2):
        outcome, screen = run(made, ray_cluster)
        assert outcome == Outcome(0)
        assert "".join(screen.lines).count("end ") >= 2
    assert {path.name for path in tmp_path.iterdir()} == {"r", "r_2"}


def test_a_lost_agent_is_replaced(ray_cluster: Cluster) -> None:
    made = spec("misbehave.py", "kill-agent-once", max_restarts=1)
    outcome, screen = run(made, ray_cluster)
    assert outcome == Outcome(0)
    assert "rank 0 failed first (lost)" in screen.err.getvalue().decode()


def test_what_a_restart_cannot_mend_is_not_restarted(ray_cluster: Cluster) -> None:
    made = spec("x", command=Command(Form.MODULE, "no_such_module_here"), max_restarts=5)
    outcome, _ = run(made, ray_cluster)
    assert outcome.code == 1
    assert "failed in attempt 1; no restart, which would meet the same error" in outcome.report
    assert outcome.report.endswith("No module named no_such_module_here")


def test_run_path_records_the_exception(ray_cluster: Cluster, tmp_path: Path) -> None:
    words = Command(Form.RUN_PATH, str(SCRIPTS / "misbehave.py"), ("raise",))
    made = spec("x", command=words, log_folder=tmp_path, run_id="r")
    outcome, _ = run(made, ray_cluster)
    assert outcome.code == 1
    assert "from its error file" in outcome.report
    assert outcome.report.endswith("ValueError: the first cause")
    assert (tmp_path / "r/attempt_0/1/error.json").is_file()


def test_tee_redirects_and_filters(ray_cluster: Cluster, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    routing = Routing(
        redirects=StreamRule.parse("2"),
        tee=StreamRule.parse("1"),
        ranks=frozenset({1}),
        stdout_needles=("rank",),
    )
    made = spec("show_environment.py", tmp_path, routing=routing, log_folder=logs, run_id="r")
    outcome, screen = run(made, ray_cluster)
    assert outcome == Outcome(0)
    assert screen.lines == ["[default1]:rank 1"]
    assert screen.err.getvalue() == b""
    assert (logs / "r/attempt_0/0/stdout.log").read_text() == "rank 0\n"
    assert (logs / "r/attempt_0/0/stderr.log").read_text() == "problem 0\n"
    assert (logs / "r/attempt_0/filtered_stdout.log").read_text() == "[default1]:rank 1\n"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Shells let what scripts start in the background ignore SIGINT; a launch would, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("mode", "number", "code"),
    [("wait", signal.SIGINT, 130), ("wait", signal.SIGTERM, 143), ("stubborn", signal.SIGINT, 130)],
)
def test_a_signal_ends_all_ranks(
    ray_cluster: Cluster, interruptible: None, mode: str, number: signal.Signals, code: int
) -> None:
    screen = Screen(b"up ", 2, lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    outcome = launch(spec("misbehave.py", mode, shutdown_timeout_s=0.5), ray_cluster, screen)
    assert outcome == Outcome(code)
    assert len(started(screen.lines)) == 4
    assert all_gone(started(screen.lines))
    assert signal.getsignal(number) is before


def test_a_reader_that_goes_away_ends_the_launch(ray_cluster: Cluster) -> None:
    def break_pipe() -> None:
        raise BrokenPipeError

    screen = Screen(b"up ", 2, break_pipe)
    outcome = launch(spec("misbehave.py", "wait"), ray_cluster, screen)
    assert outcome == Outcome(141)
    assert all_gone(started(screen.lines))


def test_what_is_missing_on_a_node_is_told(ray_cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"no_such_script\.py does not exist on"):
        run(spec("no_such_script.py"), ray_cluster)
    with pytest.raises(LaunchError, match=r"working folder .* does not exist"):
        run(spec("misbehave.py", "x", folder=tmp_path / "gone"), ray_cluster)
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match="--log-dir"):
        run(spec("misbehave.py", "x", log_folder=tmp_path / "file"), ray_cluster)


def test_refused_flags_start_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--node-rank=1", "--nnodes=2", str(SCRIPTS / "ddp.py")]) == 2
    told = capsys.readouterr().err
    assert "--node-rank=1 has no meaning on Ray" in told
    assert "Traceback" not in told
    assert main(["launch", "no_such_script.py"]) == 2
    assert "no script 'no_such_script.py'" in capsys.readouterr().err


def command_line(folder: Path, *words: object) -> subprocess.Popen[str]:
    """``ithaca launch`` as a process of its own, in a session of its own."""
    line = [sys.executable, "-m", "ithaca", "launch", *(str(word) for word in words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
        cwd=folder,
    )


def test_attached_to_a_cluster_the_traceback_is_last_on_the_screen(ray_cluster: Cluster) -> None:
    script = SCRIPTS / "misbehave.py"
    process = command_line(
        ROOT, "--address", ray_cluster.address, "--nproc_per_node=2", script, "raise"
    )
    screen, _ = process.communicate(timeout=PATIENCE_S * 2)
    assert process.returncode == 1, screen
    assert screen.rstrip().endswith("ValueError: the first cause")
    assert all_gone(started(screen.splitlines()))


def test_a_killed_launcher_leaves_no_process(tmp_path: Path) -> None:
    process = command_line(
        tmp_path, "--standalone", "--nproc-per-node=2", SCRIPTS / "misbehave.py", "wait"
    )
    assert process.stdout is not None
    pids: list[int] = []
    while len(pids) < 4:
        line = process.stdout.readline()
        assert line, "the launcher ended early"
        pids += started([line])
    pids += descendants(process.pid)
    in_its_group = [pid for pid in pids if os.getpgid(pid) == process.pid]
    assert not in_its_group, "a signal to the launcher's group would end Ray first"
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert len(pids) > 8, "ranks, their children, and Ray's daemons"
    assert all_gone(pids)


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for task in tasks for word in task.read_text().split()]
    return children + [lower for child in children for lower in descendants(child)]
