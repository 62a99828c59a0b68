"""Optimizer state: written before its room is asked for, back before the optimizer needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from ithaca.swap import allocator, planning, states
from ithaca.swap.cost import cost_table
from ithaca.swap.plan import Plan
from ithaca.swap.policy import decide, smallest_budget
from ithaca.swap.session import MemorySession
from ithaca.swap.trace import Role, Trace
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.even_times import USUAL_SECONDS, USUAL_SPEED, set_times

STEPS = 8
NO_VERSION_CHECK = 2
PATIENCE_S = 20.0

Counters = dict[str, int]
Between = Callable[[int, AdamW], None]


def nothing(_step: int, _optimizer: AdamW) -> None:
    """Nobody does anything between forward and backward."""


WIDTH, ROWS, BLOCKS = 256, 512, 8


def block() -> nn.Module:
    """Its weight, and all that it saves, is large enough to have pages of its own."""
    return nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU())


class Training:
    """Trains blocks; what each step left behind."""

    def __init__(self, in_forward: Between = nothing, before_update: Between = nothing) -> None:
        torch.manual_seed(7)
        self.model = nn.Sequential(*(block() for _ in range(BLOCKS)))
        self.optimizer = AdamW(self.model.parameters(), lr=1e-3)
        self.counters: list[Counters] = []
        self.traces: tuple[Trace, ...] = ()
        self.step = 0
        self._before_update = before_update
        middle = self.model[BLOCKS // 2]
        middle.register_forward_pre_hook(lambda *_: in_forward(self.step, self.optimizer))

    def run(self, memory: MemorySession | None = None) -> list[Tensor]:
        """Trains; all parameters and state behind it."""
        torch.manual_seed(11)
        for self.step in range(STEPS):
            self.model.zero_grad()
            rows = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(self.step))
            self.model(rows).square().mean().backward()
            self._before_update(self.step, self.optimizer)
            self.optimizer.step()
            if memory is not None:
                memory.step()
                self.counters.append(memory.report().counters)
        state = [part for entry in self.optimizer.state.values() for part in entry.values()]
        return [tensor.detach() for tensor in (*self.model.parameters(), *state)]

    def under(self, share: float, folder: Path, delay_us: int = 0) -> list[Tensor]:
        """The same in a session, with P + G + ``share`` of the activations."""
        parameters = sum(p.nbytes for p in self.model.parameters())
        activations = activation_bytes()
        budget = held_bytes() + 3 * parameters + int(share * activations)
        with MemorySession(self.model, budget, folder=folder, limit=1 << 28) as memory:
            allocator.operators().memory_faults(delay_us=delay_us)
            allocator.reset_peak()
            trained = self.run(memory)
            assert allocator.usage().peak <= budget
            self.traces = memory.traces()
        return trained


class Pair(Training):
    """One optimizer for the first block and one for the rest."""

    def __init__(self) -> None:
        super().__init__(before_update=lambda _step, _optimizer: self.first.step())
        self.first = AdamW(self.model[0].parameters(), lr=1e-2)
        self.optimizer = AdamW(self.model[1:].parameters(), lr=1e-3)

    def run(self, memory: MemorySession | None = None) -> list[Tensor]:
        """With the state of both."""
        trained = super().run(memory)
        state = [part for entry in self.first.state.values() for part in entry.values()]
        return [*trained, *(tensor.detach() for tensor in state)]


@cache
def activation_bytes() -> int:
    """U - P - G of the training above."""
    allocator.install()
    training = Training()
    fixed = held_bytes() + 3 * sum(p.nbytes for p in training.model.parameters())
    allocator.reset_peak()
    training.run()
    return allocator.usage().peak - fixed


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    """Whether all bits agree."""
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@pytest.fixture(autouse=True)
def _sound_again() -> Iterator[None]:
    yield
    allocator.operators().memory_mutate(0)


@pytest.mark.parametrize("delay_us", [0, 3000])
def test_state_goes_early_and_nobody_asks_for_its_room(delay_us: int, tmp_path: Path) -> None:
    undisturbed = Training().run()
    training = Training()
    assert same(training.under(0.3, tmp_path, delay_us), undisturbed)
    early = [step["states_early"] for step in training.counters]
    asked = [step["evicted_state"] for step in training.counters]
    assert asked[-1] > 0  # that is how a session finds out
    assert early[4] < early[5] < early[-1]
    assert asked[-1] - asked[4] <= (early[-1] - early[4]) // 10


def test_state_is_back_before_the_optimizer_needs_it(tmp_path: Path) -> None:
    training = Training()
    training.under(0.3, tmp_path)
    demanded, came = (
        [step[name] for step in training.counters] for name in ("loads_on_demand", "states_early")
    )
    assert came[-1] > came[4]
    assert demanded[-1] - demanded[4] <= (came[-1] - came[4]) // 10


def test_operators_are_not_watched_when_all_state_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[int] = []

    class Seen(states.Paging):
        def __enter__(self) -> Seen:
            watched.append(training.step)
            super().__enter__()  # type: ignore[no-untyped-call]
            return self

    monkeypatch.setattr(states, "Paging", Seen)
    training = Training()
    training.under(0.5, tmp_path)
    assert watched
    assert max(watched) < 4


def test_two_optimizers_are_known_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, training = Pair().run(), Pair()
    assert same(training.under(0.3, tmp_path), expected)
    moved = [step["state_in_bytes"] for step in training.counters]
    assert moved[4] < moved[-1]
    assert training.counters[-1]["lent"] == 0


def halve(step: int, optimizer: AdamW) -> None:
    """Changes all state by hand, once what was to leave has been written."""
    if step < 5:
        return
    ops = allocator.operators()
    deadline = time.monotonic() + PATIENCE_S
    if allocator.usage().cap is not None:
        while ops.memory_counters()["leaving_bytes"] and time.monotonic() < deadline:
            time.sleep(0)
    with torch.no_grad():
        for entry in optimizer.state.values():
            entry["exp_avg"].mul_(0.5)


def test_state_changed_by_hand_behind_its_write_is_kept(tmp_path: Path) -> None:
    expected = Training(in_forward=halve).run()
    assert same(Training(in_forward=halve).under(0.3, tmp_path), expected)


def test_without_the_version_check_the_change_is_lost(tmp_path: Path) -> None:
    expected = Training(in_forward=halve).run()
    allocator.operators().memory_mutate(NO_VERSION_CHECK)
    assert not same(Training(in_forward=halve).under(0.3, tmp_path), expected)


def test_an_optimizer_that_comes_to_need_more_still_fits(tmp_path: Path) -> None:
    def all_at_once(step: int, optimizer: AdamW) -> None:
        for group in optimizer.param_groups:
            group["foreach"] = step >= 5

    expected = Training(before_update=all_at_once).run()
    training = Training(before_update=all_at_once)
    assert same(training.under(0.02, tmp_path), expected)
    assert training.counters[-1]["lent"] > training.counters[4]["lent"]


SLOW = 1e6
"""A link, bytes/s, over which nothing should go that can be computed again."""


def moved_at(speed: float, folder: Path, patch: pytest.MonkeyPatch) -> int:
    """Bytes of state that go in each of the last steps when plans know such a link."""
    set_times(patch, lambda: USUAL_SECONDS, lambda: speed)
    expected = Training().run()
    training = Training()
    assert same(training.under(0.5, folder), expected)
    out = [step["state_out_bytes"] for step in training.counters]
    return (out[-1] - out[4]) // (len(out) - 5)


def test_state_stays_where_the_link_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert moved_at(USUAL_SPEED, tmp_path, monkeypatch) > 1 << 20
    assert moved_at(SLOW, tmp_path, monkeypatch) < 1 << 19


def test_plans_that_know_no_state_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "with_states", lambda trace, _sizes: trace)
    assert moved_at(SLOW, tmp_path, monkeypatch) > 1 << 20


def test_state_is_part_of_what_was_observed(tmp_path: Path) -> None:
    training = Training()
    training.under(0.5, tmp_path)
    (trace,) = training.traces
    weights = 2 * BLOCKS * 4 * WIDTH**2
    assert weights <= trace.paged_bytes <= weights + 8 * BLOCKS * 4 * 3 * WIDTH
    assert trace.unpaged().paged_bytes == 0
    activations = [part for part in trace.saved if part.role is Role.ACTIVATION]
    assert list(trace.unpaged().saved) == activations
    names = [[activations[i].identity for i in r.outputs] for r in trace.unpaged().replays]
    assert names == [[trace.saved[i].identity for i in r.outputs] for r in trace.replays]


def test_below_what_the_optimizer_needs_at_once_the_rest_is_planned(tmp_path: Path) -> None:
    training = Training()
    training.under(0.5, tmp_path)
    (trace,) = training.traces
    smallest = smallest_budget(trace)
    plan = decide(trace, smallest)
    assert isinstance(plan, Plan)
    assert len(plan.decisions) == len(trace.saved) - sum(
        part.role is Role.PAGED for part in trace.saved
    )
    assert plan.state_away is None
    table = cost_table(trace)
    predicted = table.step_seconds(smallest)
    assert predicted is not None
    assert predicted >= plan.step_s + 2 * trace.paged_bytes / USUAL_SPEED
