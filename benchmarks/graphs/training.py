"""One training of one model on molecules: resumable, its test part looked at once, at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.graphs.models.contestants import Batches
from ithaca.workloads.csgnn.dataset import GraphDataset

BATCH = 128
WARM_UP = 0.1
CLIP = 5.0


@dataclass(frozen=True)
class Course:
    """How a model is trained: the same for all of them but for ``lr``, which each has tried out.

    Attributes:
        epochs: of the training part.
        lr: of Adam, at its highest; it rises over a tenth of the steps and falls to 0 as a cosine.
        seed: of the parameters and of the order.
    """

    epochs: int
    lr: float
    seed: int


@dataclass
class Progress:
    """What is known of a training so far.

    Attributes:
        validation: mean absolute error after each epoch.
        best: parameters and buffers of the best of these.
        step_s: CPU seconds of all steps, without making batches.
        batch_s: CPU seconds of making batches.
        steps: how many.
        peak: bytes resident at most, beyond those before the first step.
    """

    validation: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    step_s: float = 0.0
    batch_s: float = 0.0
    steps: int = 0
    peak: int = 0

    @property
    def best_epoch(self) -> int:
        """The epoch after which the validation error was least, from 1."""
        return self.validation.index(min(self.validation)) + 1


def resident() -> tuple[int, int]:
    """Bytes of this process in memory, now and at most since :func:`forget_peak`; on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    now, most = (int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def forget_peak() -> None:
    """The peak is what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def error(model: nn.Module, batches: Batches, data: GraphDataset, part: Tensor) -> float:
    """The mean absolute error on the graphs of ``part``."""
    model.eval()
    with torch.no_grad():
        total = sum(
            float((model(batches(chosen)) - data.targets[chosen, 0]).abs().sum())
            for chosen in part.split(BATCH)
        )
    model.train()
    return total / len(part)


class Training:
    """A model on its way.

    Args:
        model: to be trained.
        batches: of the data for this model.
        data: molecules with one target.
        course: how.
        file: where everything is kept after each epoch; a training goes on from there.
    """

    def __init__(
        self, model: nn.Module, batches: Batches, data: GraphDataset, course: Course, file: Path
    ) -> None:
        self._model, self._batches, self._data, self._course = model, batches, data, course
        self._file = file
        self._optimizer = torch.optim.Adam(model.parameters(), course.lr)
        self._steps = len(data.train) // BATCH
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            course.lr,
            total_steps=course.epochs * self._steps,
            pct_start=WARM_UP,
            cycle_momentum=False,
        )
        self.progress = Progress()
        if file.exists():
            self._load()

    def run(self, say: Callable[[str], None]) -> float:
        """Trains what is left, and returns the test error of the best epoch."""
        forget_peak()
        before, _ = resident()
        done = self.progress
        while len(done.validation) < self._course.epochs:
            self._epoch()
            done.peak = max(done.peak, resident()[1] - before)
            found = error(self._model, self._batches, self._data, self._data.validation)
            done.validation.append(found)
            if found == min(done.validation):
                done.best = {k: v.clone() for k, v in self._model.state_dict().items()}
            self._save()
            say(
                f"epoch {len(done.validation)}/{self._course.epochs} validation {found:.4f} best "
                f"{min(done.validation):.4f} step {1e3 * done.step_s / done.steps:.1f} ms CPU"
            )
        self._model.load_state_dict(done.best)
        return error(self._model, self._batches, self._data, self._data.test)

    def _epoch(self) -> None:
        """All of the training part once, but for what is left behind the last whole batch."""
        done, key = self.progress, 1000 * self._course.seed + len(self.progress.validation)
        order = torch.randperm(len(self._data.train), generator=torch.Generator().manual_seed(key))
        for number in range(self._steps):
            chosen = self._data.train[order[number * BATCH : (number + 1) * BATCH]]
            began = time.process_time()
            batch = self._batches(chosen)
            made = time.process_time()
            loss = (self._model(batch) - self._data.targets[chosen, 0]).abs().mean()
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._model.parameters(), CLIP)
            self._optimizer.step()
            self._schedule.step()
            done.batch_s += made - began
            done.step_s += time.process_time() - made
            done.steps += 1

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "progress": vars(self.progress),
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self._file)

    def _load(self) -> None:
        state = torch.load(self._file, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**state["progress"])
