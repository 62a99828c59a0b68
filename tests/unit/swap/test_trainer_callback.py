"""The callback under a trainer that calls it as transformers' Trainer does.

The real one is in tests/peers, for ``make faces``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from ithaca.swap import allocator, run
from ithaca.swap.hugging_face import MemoryCallback
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import tokens, transformer

DEFAULT_CALLBACKS: list[MemoryCallback] = []


class Trainer:
    """The parts of the protocol that matter: the order of events, and their arguments."""

    def __init__(self, model: nn.Module, callbacks: list[MemoryCallback] | None = None) -> None:
        self.model = model
        self.callbacks = [*DEFAULT_CALLBACKS, *(callbacks or [])]
        self._tell("on_init_end")

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(object(), object(), object(), model=self.model, optimizer=None)

    def train(self, steps: int = 4) -> None:
        """Accumulates two micro-batches a step, as the real one: events, clipping, zero_grad."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self._tell("on_train_begin")
        self._tell("on_epoch_begin")
        for step in range(steps):
            self._tell("on_step_begin")
            for part in range(2):
                (self.model(tokens(2 * step + part)).square().mean() / 2).backward()
                if part == 0:
                    self._tell("on_substep_end")
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._tell("on_pre_optimizer_step")
            optimizer.step()
            self._tell("on_optimizer_step")
            self.model.zero_grad()
            self._tell("on_step_end")
        self._tell("on_epoch_end")
        self._tell("on_train_end")


def trained(callback: MemoryCallback | None) -> tuple[list[torch.Tensor], int]:
    """Parameters after training, and the peak."""
    torch.manual_seed(1)
    model = transformer()
    allocator.reset_peak()
    Trainer(model, [callback] if callback else []).train()
    return [parameter.detach() for parameter in model.parameters()], allocator.usage().peak


@pytest.mark.parametrize("disk", [True, False], ids=["disk", "recompute"])
def test_40_percent_change_no_bit(disk: bool, tmp_path: Path) -> None:
    allocator.install()
    base = held_bytes()
    free, peak = trained(None)
    held = base + 4 * sum(parameter.nbytes for parameter in free)
    budget = held + sum(parameter.nbytes for parameter in free) + int(0.4 * (peak - held))
    options: dict[str, Any] = {"folder": tmp_path, "limit": "1GiB"} if disk else {}
    callback = MemoryCallback(budget, **options)
    parameters, used = trained(callback)
    assert all(torch.equal(one, other) for one, other in zip(parameters, free, strict=True))
    assert used <= budget
    assert callback.report().steps == 4
    assert allocator.usage().cap is None
    assert list(tmp_path.iterdir()) == []


def test_an_exception_is_followed_by_close() -> None:
    class Broken(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError

    allocator.install()
    callback = MemoryCallback("1GiB")
    with pytest.raises(ZeroDivisionError):
        Trainer(Broken(4, 4), [callback]).train()
    assert allocator.usage().cap is not None
    callback.close(ZeroDivisionError())
    assert allocator.usage().cap is None
    callback.close()


def test_what_is_no_event_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="on_tea_time"):
        MemoryCallback("1GiB").on_tea_time  # noqa: B018


SCRIPT = """
import sys
import torch
from transformers.trainer import Trainer
torch.manual_seed(0)
model = torch.nn.Linear(64, 64)
assert sys.argv[1:] == ["--epochs", "3"]
Trainer(model).train(2)
"""


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the library."""
    module = ModuleType("transformers.trainer")
    module.Trainer = Trainer  # type: ignore[attr-defined]
    module.DEFAULT_CALLBACKS = DEFAULT_CALLBACKS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    monkeypatch.setitem(sys.modules, "transformers.trainer", module)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_script_runs_unmodified(
    transformers: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    assert run.main(["--budget", "1GiB", str(script), "--epochs", "3"]) == 0
    assert "memory: peak" in capsys.readouterr().err
    assert DEFAULT_CALLBACKS == []
    assert allocator.usage().cap is None


@pytest.mark.parametrize(
    ("text", "budget", "about"),
    [
        ("pass", "1GiB", "has to be called with train()"),
        (SCRIPT, "16KiB", "bytes"),
    ],
)
def test_what_cannot_run_is_told(
    transformers: None,
    text: str,
    budget: str,
    about: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = tmp_path / "train.py"
    script.write_text(text)
    assert run.main(["--budget", budget, str(script), "--epochs", "3"]) == 2
    assert about in capsys.readouterr().err
    assert DEFAULT_CALLBACKS == []
    assert allocator.usage().cap is None


def test_a_missing_script_or_library_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.main(["--budget", "1GiB", str(tmp_path / "none.py")]) == 2
    assert "no script" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "transformers.trainer", None)
    (tmp_path / "some.py").write_text("pass")
    assert run.main(["--budget", "1GiB", str(tmp_path / "some.py")]) == 2
    assert "transformers" in capsys.readouterr().err
