"""The command line of ``ithaca launch``: torchrun's flags, and the ones it refuses by name."""

from __future__ import annotations

import argparse
import os
import re
import signal
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from ithaca.runtime.script.flags import add_flags
from ithaca.runtime.script.request import spec_from
from ithaca.runtime.script.spec import Form, LaunchError, LaunchSpec, NodeRange
from ithaca.runtime.script.streams import Shown, Stream


def parser() -> argparse.ArgumentParser:
    """A fresh parser with the flags of launch."""
    made = argparse.ArgumentParser()
    add_flags(made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a script."""
    (tmp_path / "train.py").touch()
    return tmp_path


def spec(folder: Path, *words: str, shell: dict[str, str] | None = None) -> LaunchSpec:
    """The launch for a command line, with or without a script at its end."""
    has_script = any(word == "--" for word in words) or words[-1:] == ("train.py",)
    line = [*words] if has_script else [*words, "train.py"]
    return spec_from(parser().parse_args(line), shell or {"PATH": os.defpath}, folder)


def test_every_flag_of_torchrun_is_known_in_both_spellings() -> None:
    def spellings(made: argparse.ArgumentParser) -> set[str]:
        return {word for action in made._actions for word in action.option_strings}

    missing = spellings(get_args_parser()) - spellings(parser())
    assert not missing
    assert {"--nproc-per-node", "--nproc_per_node"} <= spellings(parser())


def test_the_defaults_are_torchruns(folder: Path) -> None:
    made = spec(folder)
    assert (made.nodes, made.ranks_per_node, made.max_restarts) == (NodeRange(1, 1), 1, 0)
    assert made.signals == (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    assert (made.monitor_interval_s, made.shutdown_timeout_s, made.role) == (0.1, 30.0, "default")
    assert made.routing.shown(0, Stream.OUT) is Shown.PLAIN
    assert made.port is None
    assert made.log_folder is None


def test_arguments_behind_the_script_are_the_scripts(folder: Path) -> None:
    args = ["--nproc_per_node=2", "train.py", "--tee", "3", "--", "--x", "-m"]
    made = spec_from(parser().parse_args(args), {}, folder)
    assert made.ranks_per_node == 2
    assert made.command.arguments == ("--tee", "3", "--", "--x", "-m")
    assert not made.routing.keeps_logs


def test_a_usual_command_line_of_one_node_is_taken(folder: Path) -> None:
    made = spec(
        folder,
        "--nnodes=1",
        "--node_rank=0",
        "--master_addr=localhost",
        "--master_port=29501",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
        "--rdzv-id=job 7",
        "--max_restarts=2",
        "--log_dir=logs",
        "-r0:1,1:2",
        "-t",
        "2",
        "--local_ranks_filter=0,1",
        "--duplicate-stdout-filters=a,,b,c",
        "--signals-to-handle=SIGUSR1, SIGTERM",
        "--shutdown-timeout=1.5",
    )
    assert (made.port, made.run_id, made.max_restarts) == (29501, "job 7", 2)
    assert made.log_folder == folder / "logs"
    assert made.routing.stdout_needles == ("a,b", "c")
    assert made.routing.ranks == frozenset({0, 1})
    assert made.signals == (signal.SIGUSR1, signal.SIGTERM)
    assert made.shutdown_timeout_s == 1.5
    assert made.routing.shown(0, Stream.OUT) is Shown.NO
    assert made.routing.shown(1, Stream.OUT) is Shown.PLAIN
    assert made.routing.shown(1, Stream.ERR) is Shown.PREFIXED


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--node-rank=1"], ["--node-rank=1"]),
        (["--nnodes=2", "--node_rank=0"], ["--node-rank=0"]),
        (["--master_addr=10.0.0.1"], ["--master-addr=10.0.0.1", "--interface"]),
        (["--address=auto", "--master-addr=localhost"], ["--master-addr=localhost"]),
        (["--rdzv-backend=etcd"], ["--rdzv-backend=etcd", "c10d"]),
        (["--rdzv_endpoint=head:29400"], ["--rdzv-endpoint=head:29400"]),
        (["--rdzv-conf=timeout=3"], ["--rdzv-conf=timeout=3"]),
        (["--local-addr=10.0.0.1"], ["--local-addr", "--interface"]),
        (["--start_method=fork"], ["--start-method=fork"]),
        (["--event-log-handler=console"], ["--event-log-handler=console"]),
        (["--logs-specs=mine"], ["--logs-specs=mine", "--log-dir"]),
        (["--numa-binding=node"], ["--numa-binding=node", "numactl"]),
        (["--standalone", "--address=auto"], ["--standalone", "--address=auto"]),
        (["--standalone", "--nnodes=2"], ["--standalone", "--nnodes=2"]),
        (["--no-python", "-m"], ["--no-python", "--module"]),
        (["--local-addr=1", "--logs-specs=2"], ["--local-addr=1", "--logs-specs=2"]),
    ],
)
def test_a_flag_without_meaning_is_refused_by_name(
    folder: Path, words: list[str], names: list[str]
) -> None:
    with pytest.raises(LaunchError) as refused:
        spec(folder, *words)
    for name in names:
        assert name in str(refused.value)


def test_the_neutral_values_of_such_flags_are_taken(folder: Path) -> None:
    made = spec(
        folder,
        "--standalone",
        "--start-method=spawn",
        "--event-log-handler=null",
        "--rdzv-backend=static",
        "--master-addr=127.0.0.1",
        "--rdzv-endpoint=127.0.0.1:29500",
        "--master-port=0",
    )
    assert made.port is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nnodes=0"], "MIN"),
        (["--nnodes=a"], "MIN:MAX"),
        (["--nproc-per-node=0"], "--nproc-per-node"),
        (["--nproc-per-node=tpu"], "'tpu'"),
        (["--address=auto", "--nproc-per-node=xpu"], "xpu"),
        (["--max-restarts=-1"], "--max-restarts"),
        (["--monitor-interval=0"], "--monitor-interval"),
        (["--monitor-interval=nan"], "--monitor-interval"),
        (["--shutdown-timeout=-1"], "--shutdown-timeout"),
        (["--signals-to-handle=SIGNIX"], "SIGNIX"),
        (["--signals-to-handle=SIGKILL"], "SIGKILL"),
        (["--master-port=70000"], "--master-port"),
        (["-r", "9"], "--redirects: '9'"),
        (["--tee=x"], "--tee: 'x'"),
        (["--local-ranks-filter=a"], "--local-ranks-filter"),
    ],
)
def test_bad_values_are_told(folder: Path, words: list[str], message: str) -> None:
    with pytest.raises(LaunchError, match=re.escape(message)):
        spec(folder, *words)


def test_a_missing_script_or_program_is_told(tmp_path: Path) -> None:
    for words in (["train.py"], ["--run-path", "train.py"]):
        with pytest.raises(LaunchError, match=r"no script 'train.py'"):
            spec_from(parser().parse_args(words), {}, tmp_path)
    with pytest.raises(LaunchError, match="'nixda' is no program"):
        spec_from(parser().parse_args(["--no-python", "nixda"]), {"PATH": os.defpath}, tmp_path)


def test_the_forms(folder: Path) -> None:
    def form(*words: str) -> Form:
        return spec_from(parser().parse_args(words), {"PATH": os.defpath}, folder).command.form

    assert form("train.py") is Form.SCRIPT
    assert form("-m", "package.train") is Form.MODULE
    assert form("--no_python", "sh") is Form.PROGRAM
    assert form("--run-path", "train.py") is Form.RUN_PATH


def test_the_shell_gives_defaults_that_flags_override(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PET_NPROC_PER_NODE", "3")
    monkeypatch.setenv("PET_STANDALONE", "1")
    monkeypatch.setenv("PET_MODULE", "0")
    monkeypatch.setenv("PET_MAX_RESTARTS", "2")
    args = parser().parse_args(["--max-restarts=1", "train.py"])
    assert args.standalone
    assert not args.module
    shell = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "4", "GLOO_SOCKET_IFNAME": "eth7"}
    made = spec_from(args, shell, folder)
    assert (made.ranks_per_node, made.max_restarts) == (3, 1)
    assert (made.shutdown_timeout_s, made.interface) == (4.0, "eth7")
    with pytest.raises(LaunchError, match="TORCH_ELASTIC_SHUTDOWN_TIMEOUT"):
        spec_from(args, {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "soon"}, folder)


def test_an_interface_is_told_to_gloo_and_nccl(folder: Path) -> None:
    made = spec(folder, "--interface=eth1", shell={"NCCL_SOCKET_IFNAME": "ib0"})
    assert made.interface == "eth1"
    assert made.environment == {"GLOO_SOCKET_IFNAME": "eth1", "NCCL_SOCKET_IFNAME": "ib0"}
    assert spec(folder, shell={"GLOO_SOCKET_IFNAME": "a,b"}).interface == "a"


def test_words_for_the_number_of_ranks(folder: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert spec(folder, "--nproc-per-node=cpu").ranks_per_node == cores
    assert spec(folder, "--address=auto", "--nproc-per-node=gpu").ranks_per_node == "gpu"


def test_runs_without_an_id_get_different_ones(folder: Path) -> None:
    assert spec(folder).run_id != spec(folder).run_id
