"""However a session ends, it leaves no file, no thread, no hook and no cap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import optimizer as optim

from ithaca.swap import allocator
from ithaca.swap.errors import BudgetError, Unsupported
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import tokens, transformer


def open_files() -> tuple[str, ...]:
    """Names of all open files of this process."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the folder that is being listed
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return tuple(sorted(names))


def state(model: nn.Module) -> tuple[object, ...]:
    """Everything that a session touches in the process."""
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )
    files = open_files()
    threads = len(os.listdir("/proc/self/task"))
    steps = len(optim._global_optimizer_pre_hooks) + len(optim._global_optimizer_post_hooks)
    stack = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks, files, threads, steps, stack, allocator.usage().cap


def settled(model: nn.Module, wanted: tuple[object, ...] | None = None) -> tuple[object, ...]:
    """The state once it is ``wanted``, or after some seconds: threads end behind their join."""
    for _ in range(500):
        if state(model) == wanted:
            break
        Event().wait(0.01 if wanted else 0.001)
    return state(model)


def test_the_end_leaves_nothing(tmp_path: Path) -> None:
    model = transformer(2)
    allocator.install()
    before = settled(model)
    for _ in range(3):
        with MemorySession(model, "64MiB", folder=tmp_path, limit="64MiB") as memory:
            model(tokens(0)).sum().backward()
            memory.step()
            assert state(model) != before
        assert settled(model, before) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_in_the_middle_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    model = transformer(2)
    allocator.install()
    before = state(model)
    fail = saved_tensors_hooks(lambda x: x, lambda _x: (_ for _ in ()).throw(error()))

    def broken() -> None:
        with MemorySession(model, "64MiB", folder=tmp_path, limit="64MiB"):
            x = model(tokens(0))
            with fail:
                y = x.exp()
            y.sum().backward()

    with pytest.raises(error):
        broken()
    assert settled(model, before) == before


def test_an_error_while_a_refusal_is_explained_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = transformer(2)
    allocator.install()
    before = state(model)

    def broken(_self: MemorySession, _error: torch.OutOfMemoryError) -> BudgetError:
        raise ArithmeticError("from the estimate")

    def refused() -> None:
        held = held_bytes()
        with MemorySession(model, held + (256 << 10), folder=tmp_path, limit="64MiB"):
            model(tokens(0)).sum().backward()

    monkeypatch.setattr(MemorySession, "_refusal", broken)
    with pytest.raises(ArithmeticError, match="from the estimate"):
        refused()
    assert settled(model, before) == before


def test_an_error_in_an_optimizer_leaves_nothing(tmp_path: Path) -> None:
    model = transformer(1)
    adam = torch.optim.Adam(model.parameters())
    allocator.install()
    before = state(model)

    def closure() -> float:
        raise ValueError("from the closure")

    def broken() -> None:
        with MemorySession(model, "64MiB", folder=tmp_path, limit="64MiB"):
            adam.step(closure)

    with pytest.raises(ValueError, match="from the closure"):
        broken()
    assert settled(model, before) == before
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


INTERRUPTED = """
import signal, sys, torch
from ithaca.swap.session import MemorySession
from tests.unit.swap.tiny import tokens, transformer
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
model = transformer(2)
with MemorySession(model, "64MiB", folder=sys.argv[1], limit="64MiB") as memory:
    print("ready", flush=True)
    while True:
        model(tokens(0)).sum().backward()
        memory.step()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_leaves_no_file(number: signal.Signals, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.send_signal(number)
            _, error = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == -number
    assert number is signal.SIGKILL or "KeyboardInterrupt" in error
    assert list(tmp_path.iterdir()) == []


def test_a_second_session_is_refused(tmp_path: Path) -> None:
    with (
        MemorySession(transformer(1), "64MiB"),
        pytest.raises(RuntimeError, match="there is one in a process"),
    ):
        MemorySession(transformer(1), "64MiB").__enter__()


def test_a_budget_below_the_parameters_is_refused_with_the_number() -> None:
    model = transformer(2)
    needed = sum(p.nbytes for p in model.parameters())
    with pytest.raises(BudgetError, match=f"above {needed} bytes") as refused:
        MemorySession(model, needed - 1).__enter__()
    assert refused.value.needed_bytes == needed
    assert allocator.usage().cap is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"budget": "6 gibibytes"}, "'6 gibibytes' is no size"),
        ({"budget": "6GiB", "folder": "."}, "needs a limit"),
        ({"budget": "6GiB", "limit": "1GiB"}, "is for a folder"),
        ({"budget": "6GiB", "folder": "nowhere", "limit": 1}, "no folder that exists"),
        ({"budget": "6GiB", "threads": 0}, "at least 1"),
    ],
)
def test_mistakes_are_explained(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemorySession(nn.Linear(1, 1), **given)  # type: ignore[arg-type]


def test_a_compiled_model_is_refused_by_name() -> None:
    model = torch.compile(nn.Linear(1, 1))
    with pytest.raises(Unsupported, match=r"torch\.compile"):
        MemorySession(model, "1GiB")  # type: ignore[arg-type]
