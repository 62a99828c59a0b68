"""A training on the GPU, with and without a session, and what is left of it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ithaca.swap.bench.kernels import same_kernels
from ithaca.swap.bench.models import MODELS, Stack
from ithaca.swap.bench.rival import digest_of
from ithaca.swap.errors import BudgetError
from ithaca.swap.session import MemorySession

DEVICE = torch.device("cuda", 0)
# So long the GPU spins when a test makes what is computed late, in cycles: some milliseconds.
SPIN = 20_000_000
Prepare = Callable[[MemorySession], None]


@dataclass
class Outcome:
    """What a training left.

    Args:
        digest: of all parameters behind the last step.
        gradients: digest of the gradients of the last step.
        losses: of all steps.
        start_bytes: allocated before the model was made.
        fixed_bytes: parameters, buffers, gradients and optimizer state behind the last step.
        peak_bytes: allocated at most; reserved_bytes likewise.
        counters: of the session.
    """

    digest: str
    gradients: str
    losses: list[float]
    start_bytes: int
    fixed_bytes: int
    peak_bytes: int
    reserved_bytes: int
    counters: dict[str, int] = field(default_factory=dict)

    def same_bits(self, other: Outcome) -> bool:
        """Whether all parameters, gradients and losses agree."""
        mine = self.digest, self.gradients, self.losses
        return mine == (other.digest, other.gradients, other.losses)

    def budget(self, share: float) -> int:
        """P + G + share (U - P - G), on top of what is allocated now."""
        gc.collect()
        activations = self.peak_bytes - self.start_bytes - self.fixed_bytes
        return torch.cuda.memory_allocated(DEVICE) + self.fixed_bytes + int(share * activations)


@dataclass(frozen=True)
class Training:
    """What is trained and how it is called.

    Args:
        model: name in ``ithaca.swap.bench.models``.
        steps: how many.
        late: whether the GPU spins before every block, so that it is behind the program.
        autocast: whether dtypes are chosen by torch.
        vary: called before each step with its number; whether the optimizer steps.
    """

    model: str = "small"
    steps: int = 5
    late: bool = False
    autocast: bool = False
    vary: Callable[[Stack, int], bool] = lambda _model, _step: True
    length: Callable[[int], int | None] = lambda _step: None
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = lambda parameters: (
        torch.optim.AdamW(parameters, lr=1e-3)
    )

    def run(self, open_session: Callable[[Stack], MemorySession] | None = None) -> Outcome:
        """Trains from a fixed seed; in a session if there is one."""
        same_kernels()
        gc.collect()
        torch.cuda.synchronize()
        start = torch.cuda.memory_allocated(DEVICE)
        case = MODELS[self.model]
        model = case.make(DEVICE)
        if self.late:
            model.run = _late
        torch.manual_seed(11)
        optimizer = self.optimizer(list(model.parameters()))
        losses: list[float] = []
        gradients = [""]

        def loop(memory: MemorySession | None) -> None:
            torch.cuda.reset_peak_memory_stats(DEVICE)
            for step in range(self.steps):
                steps_on = self.vary(model, step)
                optimizer.zero_grad()
                x = case.batch(step, DEVICE, self.length(step))
                with torch.autocast("cuda", torch.bfloat16, enabled=self.autocast):
                    loss = model(x).float().square().mean()
                loss.backward()
                losses.append(loss.item())
                del loss, x
                if step == self.steps - 1:
                    gradients[0] = digest(p.grad for p in model.parameters())
                if steps_on:
                    optimizer.step()
                if memory is not None:
                    memory.step()

        counters: dict[str, int] = {}
        if open_session is None:
            loop(None)
        else:
            with open_session(model) as memory:
                loop(memory)
            counters = memory.report().counters
        torch.cuda.synchronize()
        state = [part for entry in optimizer.state.values() for part in entry.values()]
        held = [*model.parameters(), *model.buffers(), *state]
        held += [p.grad for p in model.parameters() if p.grad is not None]
        return Outcome(
            digest_of(model),
            gradients[0],
            losses,
            start,
            sum(part.nbytes for part in held if isinstance(part, Tensor) and part.is_cuda),
            torch.cuda.max_memory_allocated(DEVICE),
            torch.cuda.max_memory_reserved(DEVICE),
            counters,
        )

    def within(
        self,
        budget: int,
        folder: Path | None = None,
        prepare: Prepare | None = None,
        **more: object,
    ) -> Outcome:
        """The same under a budget; ``more`` are arguments of the session."""

        def opened(model: Stack) -> MemorySession:
            disk = {} if folder is None else {"folder": folder, "limit": "16GiB"}
            memory = MemorySession(model, budget, **disk, **more)  # type: ignore[arg-type]
            if prepare is not None:
                prepare(memory)
            return memory

        return self.run(opened)

    def within_or_what_is_needed(self, budget: int, **more: object) -> tuple[Outcome, int]:
        """The same, or under the budget that a refusal names; which one it was.

        A refusal says what the step needs to get past one point. Behind the first is at most the
        optimizer, whose foreach kind holds all its state at once.
        """
        for _ in range(2):
            try:
                return self.within(budget, **more), budget  # type: ignore[arg-type]
            except BudgetError as refused:
                budget = int(refused.needed_bytes * 1.05)
            gc.collect()
        return self.within(budget, **more), budget  # type: ignore[arg-type]


def _late(block: nn.Module, x: Tensor) -> Tensor:
    torch.cuda._sleep(SPIN)
    result: Tensor = block(x)
    return result


def digest(tensors: object) -> str:
    """Of the bytes of tensors; ``None`` among them counts, too."""
    holder = nn.Module()
    parts = list(tensors)  # type: ignore[call-overload]
    for number, part in enumerate(parts):
        if part is not None:
            holder.register_parameter(f"p{number}", nn.Parameter(part.detach(), False))
    return f"{len(parts)} {digest_of(holder)}"
