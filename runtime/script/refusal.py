"""The torchrun flags that Ray leaves without a meaning, each with its reason and a way out."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator

from ithaca.runtime.script.flags import spelling

_HERE = ("localhost", "127.0.0.1", "::1", "[::1]", "")
_KNOWN_BACKENDS = ("static", "c10d")


def refusals(args: argparse.Namespace) -> list[str]:
    """One line for each flag that is refused; empty when all can be honoured."""
    return [*_refuse_meeting(args), *_refuse_plugins(args), *_refuse_pairs(args)]


def _refuse_meeting(args: argparse.Namespace) -> Iterator[str]:
    if args.node_rank is not None and (args.node_rank != 0 or args.nnodes not in ("1", "1:1")):
        yield _line(
            args,
            "node_rank",
            "one command starts the ranks of all nodes, and Ray numbers the nodes",
            "run it once, without this flag",
        )
    if args.rdzv_backend not in (None, *_KNOWN_BACKENDS):
        yield _line(
            args,
            "rdzv_backend",
            "Ray knows which nodes there are, no other service is asked",
            "leave it out, or give c10d or static, which mean the same here",
        )
    for name in ("rdzv_endpoint", "master_addr"):
        value = getattr(args, name)
        if value is not None and not (args.address == "local" and _is_here(value)):
            yield _line(
                args,
                name,
                "the ranks meet on the node that Ray gives rank 0",
                "leave it out; --address attaches to a Ray cluster, --interface picks a network",
            )
    if args.rdzv_conf:
        yield _line(
            args, "rdzv_conf", "there is no rendezvous besides Ray to configure", "leave it out"
        )
    if args.local_addr is not None:
        yield _line(
            args,
            "local_addr",
            "every node has an address of its own, and Ray knows it",
            "leave it out, or name the network with --interface",
        )


def _refuse_plugins(args: argparse.Namespace) -> Iterator[str]:
    if args.start_method not in (None, "spawn"):
        yield _line(
            args,
            "start_method",
            "every rank is a fresh process, started through exec",
            "leave it out",
        )
    if args.event_log_handler not in (None, "null"):
        yield _line(
            args,
            "event_log_handler",
            "handlers of torchelastic's events run in torchrun's agent, which is not here",
            "leave it out",
        )
    if args.logs_specs is not None:
        yield _line(
            args,
            "logs_specs",
            "plug-ins for log files run in torchrun's agent, which is not here",
            "use --log-dir, --redirects and --tee",
        )
    if args.numa_binding is not None:
        yield _line(
            args,
            "numa_binding",
            "ranks are not bound to processors",
            "put numactl in front: --no-python numactl --cpunodebind=... python script.py",
        )


def _refuse_pairs(args: argparse.Namespace) -> Iterator[str]:
    if args.standalone and args.address != "local":
        yield (
            f"--standalone means this machine alone, --address={args.address} another cluster; "
            "leave one of them out"
        )
    if args.standalone and args.nnodes not in ("1", "1:1"):
        yield f"--standalone means one node, --nnodes={args.nnodes} others; leave one of them out"
    if args.no_python and args.module:
        yield "--no-python runs a program and --module a Python module; leave one of them out"


def _line(args: argparse.Namespace, name: str, reason: str, instead: str) -> str:
    return f"{spelling(name)}={getattr(args, name)} has no meaning on Ray: {reason}. {instead}."


def _is_here(endpoint: str) -> bool:
    host, colon, port = endpoint.rpartition(":")
    name = host if colon and port.isdecimal() else endpoint
    return name in _HERE or name == socket.gethostname()
