"""From parsed flags to a checked :class:`LaunchSpec`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from ithaca.runtime import environment
from ithaca.runtime.script.refusal import refusals
from ithaca.runtime.script.spec import Command, Form, LaunchError, LaunchSpec, NodeRange
from ithaca.runtime.script.streams import Routing, StreamRule

Number = TypeVar("Number", int, float)

_WORDS = ("gpu", "cpu", "xpu", "auto")


def spec_from(args: argparse.Namespace, shell: Mapping[str, str], folder: Path) -> LaunchSpec:
    """The launch that ``args`` ask for.

    Args:
        args: what the parser of ``flags.add_flags`` returned.
        shell: variables of the launching shell.
        folder: working directory.

    Raises:
        LaunchError: flags that are refused, contradict each other or have bad values, or a script
            that does not exist. Names all refused flags at once.
    """
    refused = refusals(args)
    if refused:
        raise LaunchError("\n".join(refused))
    try:
        return LaunchSpec(
            command=_command(args, shell, folder),
            nodes=NodeRange.parse(args.nnodes),
            ranks_per_node=_ranks_per_node(args.nproc_per_node, args.address == "local"),
            run_id=args.rdzv_id or str(uuid.uuid4()),
            role=args.role,
            max_restarts=_at_least("--max-restarts", args.max_restarts, 0),
            monitor_interval_s=_at_least("--monitor-interval", args.monitor_interval, 0.01),
            shutdown_timeout_s=_at_least("--shutdown-timeout", _shutdown_timeout(args, shell), 0),
            signals=_signals(args.signals_to_handle),
            routing=_routing(args),
            log_folder=None if args.log_dir is None else folder / args.log_dir,
            port=_port(args.master_port),
            interface=args.interface or _gloo_interface(shell),
            virtual_local_rank=args.virtual_local_rank,
            folder=folder,
            environment=_on_interface(args.interface, shell),
            prefix=environment.read(environment.LOG_LINE_PREFIX, shell) or "",
        )
    except ValueError as error:
        raise LaunchError(str(error)) from error


def _command(args: argparse.Namespace, shell: Mapping[str, str], folder: Path) -> Command:
    target = args.training_script
    arguments = tuple(args.training_script_args)
    if args.run_path:
        form = Form.RUN_PATH
    elif args.no_python:
        form = Form.PROGRAM
        named = str(folder / target) if os.sep in target else target
        if shutil.which(named, path=shell.get("PATH")) is None:
            raise LaunchError(f"{target!r} is no program that can be executed")
    else:
        form = Form.MODULE if args.module else Form.SCRIPT
    if form in (Form.SCRIPT, Form.RUN_PATH) and not (folder / target).is_file():
        raise LaunchError(
            f"there is no script {target!r} in {folder}; give its path, "
            "or -m for a module, or --no-python for another program"
        )
    return Command(form, target, arguments)


def _ranks_per_node(text: str, is_own: bool) -> int | str:
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    if text not in _WORDS:
        raise LaunchError(f"--nproc-per-node is a number from 1 or one of {_WORDS}, not {text!r}")
    if is_own:
        return _ranks_here(text)
    if text == "xpu":
        raise LaunchError("--nproc-per-node=xpu cannot be counted on a Ray cluster; give a number")
    return text


def _ranks_here(word: str) -> int:
    """How many devices of the kind this machine has."""
    import torch

    cores = len(os.sched_getaffinity(0))
    if word == "auto":
        return torch.accelerator.device_count() if torch.accelerator.is_available() else cores
    count = {"cpu": lambda: cores, "gpu": torch.cuda.device_count, "xpu": torch.xpu.device_count}
    ranks = count[word]()
    if ranks == 0:
        raise LaunchError(f"--nproc-per-node={word}, but this machine has none; give a number")
    return ranks


def _shutdown_timeout(args: argparse.Namespace, shell: Mapping[str, str]) -> float:
    if args.shutdown_timeout is not None:
        return float(args.shutdown_timeout)
    text = environment.read(environment.SHUTDOWN_TIMEOUT, shell) or ""
    try:
        return float(text)
    except ValueError:
        name = environment.SHUTDOWN_TIMEOUT.name
        raise LaunchError(f"{name} is a number of seconds, not {text!r}") from None


def _gloo_interface(shell: Mapping[str, str]) -> str | None:
    """The first interface that the shell names for gloo."""
    names = environment.read(environment.GLOO_INTERFACE, shell)
    return None if names is None else names.split(",")[0].strip()


def _on_interface(name: str | None, shell: Mapping[str, str]) -> Mapping[str, str]:
    """The shell's variables, with ``--interface`` told to gloo and NCCL where the shell is mute."""
    if name is None:
        return shell
    return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name, **shell}


def _at_least(name: str, value: Number, least: float) -> Number:
    if not value >= least:
        raise LaunchError(f"{name} is at least {least}, not {value}")
    return value


def _signals(text: str) -> tuple[signal.Signals, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in signal.Signals.__members__]
    fixed = [name for name in names if name in ("SIGKILL", "SIGSTOP")]
    if unknown or fixed:
        raise LaunchError(
            f"--signals-to-handle: {', '.join(unknown + fixed)} cannot be handled; "
            "give names like SIGTERM,SIGINT,SIGUSR1"
        )
    return tuple(signal.Signals[name] for name in names)


def _port(port: int | None) -> int | None:
    if port is not None and not 0 <= port <= 65535:
        raise LaunchError(f"--master-port is a port from 1 to 65535, or 0 for a free one: {port}")
    return port or None


def _routing(args: argparse.Namespace) -> Routing:
    return Routing(
        redirects=_rule("--redirects", args.redirects),
        tee=_rule("--tee", args.tee),
        ranks=_shown_ranks(args.local_ranks_filter),
        stdout_needles=_needles(args.duplicate_stdout_filters),
        stderr_needles=_needles(args.duplicate_stderr_filters),
    )


def _rule(name: str, text: str) -> StreamRule:
    try:
        return StreamRule.parse(text)
    except ValueError as error:
        raise LaunchError(f"{name}: {error}") from error


def _shown_ranks(text: str) -> frozenset[int] | None:
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise LaunchError(f"--local-ranks-filter is a list of local ranks like 0,1, not {text!r}")
    return frozenset(int(part) for part in parts)


def _needles(text: str) -> tuple[str, ...]:
    """Words between commas; two commas stand for one in a word."""
    words = text.replace(",,", "\0").split(",")
    return tuple(word.replace("\0", ",") for word in words if word)
