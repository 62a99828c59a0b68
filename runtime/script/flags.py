"""The flags of ``ithaca launch``: torchrun's, in dash and underscore spelling, and three of ours.

Source of names, forms and defaults: torch.distributed.run of torch 2.13. ``PET_<FLAG>`` in the
environment is a default, as there.
"""

from __future__ import annotations

import argparse
from typing import Any

from ithaca.runtime import environment

_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds all flags, the script and its arguments to ``parser``."""
    _add_size(parser)
    _add_meeting(parser)
    _add_run(parser)
    _add_output(parser)
    ours = parser.add_argument_group("ithaca's own")
    ours.add_argument(
        "--address",
        default="local",
        help="Ray cluster: local (an own one, default), auto, or host:port of one to attach to",
    )
    ours.add_argument("--interface", help="network interface on which the ranks meet and talk")
    parser.add_argument("training_script", help="the script, module or program")
    parser.add_argument("training_script_args", nargs=argparse.REMAINDER, help="its arguments")


def spelling(name: str) -> str:
    """The dash spelling of an argparse destination."""
    return "--" + name.replace("_", "-")


def _flag(
    group: argparse._ActionsContainer,
    name: str,
    *short: str,
    **options: Any,  # noqa: ANN401 - of add_argument
) -> None:
    """Adds ``--a-flag`` and ``--a_flag``, with PET_A_FLAG as its default."""
    dest = name.replace("-", "_")
    from_shell = environment.flag(dest)
    if from_shell is not None:
        switch = options.get("action") == "store_true"
        options["default"] = from_shell not in ("", "0") if switch else from_shell
    names = dict.fromkeys((f"--{name}", f"--{dest}"))
    group.add_argument(*short, *names, dest=dest, **options)


def _add_size(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how many")
    _flag(group, "nnodes", default="1", help="nodes of the Ray cluster: N or MIN:MAX")
    _flag(
        group,
        "nproc-per-node",
        default="1",
        help="ranks on each node: a number, gpu, cpu, xpu or auto",
    )
    _flag(group, "max-restarts", type=int, default=0, help="restarts of the whole group")


def _add_meeting(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the ranks meet")
    _flag(group, "standalone", action="store_true", help="one machine: an own Ray cluster")
    _flag(group, "master-port", type=int, help="MASTER_PORT; a free port by default")
    _flag(group, "rdzv-id", help="id of the run, for TORCHELASTIC_RUN_ID and the log folder")
    _flag(group, "rdzv-backend", help="static or c10d; both mean that Ray knows the nodes")
    _flag(group, "rdzv-endpoint", help="an address of this machine, with an own cluster")
    _flag(group, "rdzv-conf", help="refused: Ray is the rendezvous")
    _flag(group, "node-rank", type=int, help="0 with one node, else refused")
    _flag(group, "master-addr", help="an address of this machine, with an own cluster")
    _flag(group, "local-addr", help="refused: see --interface")


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how the script runs")
    _flag(group, "module", "-m", action="store_true", help="the script is a module, as python -m")
    _flag(group, "no-python", action="store_true", help="run the script directly, without python")
    _flag(group, "run-path", action="store_true", help="run it with runpy, recording exceptions")
    _flag(group, "role", default="default", help="ROLE_NAME, and the prefix of teed lines")
    _flag(group, "monitor-interval", type=float, default=0.1, help="seconds between two looks")
    _flag(
        group,
        "shutdown-timeout",
        type=float,
        help="seconds from SIGTERM to SIGKILL; TORCH_ELASTIC_SHUTDOWN_TIMEOUT or 30 by default",
    )
    _flag(group, "signals-to-handle", default=_SIGNALS, help="signals passed on to the ranks")
    _flag(group, "virtual-local-rank", action="store_true", help="LOCAL_RANK 0, one GPU each")
    _flag(group, "start-method", choices=("spawn", "fork", "forkserver"), help="spawn only")
    _flag(group, "numa-binding", help="refused: see numactl")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    _flag(group, "log-dir", help="base folder of the logs: <run id>/attempt_<k>/<rank>/")
    _flag(group, "redirects", "-r", default="0", help="streams to log files only: 0..3, 0:1,1:2")
    _flag(group, "tee", "-t", default="0", help="streams to log files and, prefixed, here")
    _flag(group, "local-ranks-filter", default="", help="show only these local ranks: 0,1")
    _flag(group, "duplicate-stdout-filters", default="", help="copy teed lines with these words")
    _flag(group, "duplicate-stderr-filters", default="", help="the same for stderr")
    _flag(group, "event-log-handler", help="null only")
    _flag(group, "logs-specs", help="refused: the logs are as --log-dir says")
