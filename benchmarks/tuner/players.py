"""Who is compared: our policies, and opponents behind the same two calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.tuner.remote import Remote
from benchmarks.tuner.table import Table
from ithaca.tuners.arm import Arm, blocks, models, whole
from ithaca.tuners.ladder import Fidelity
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.space import Config, Space
from ithaca.tuners.trial import Failure

LEAST, FACTOR = 2, 3
"""Epochs of every training, and how many times as many the best of so many get, up to 52."""


@dataclass(frozen=True)
class Asked:
    """What is evaluated next.

    Attributes:
        key: the same one again means that this training goes on.
        config: to be evaluated.
        limit_s: how long it may take; None for no limit.
        fidelity: epochs in all; None for a whole training.
    """

    key: int
    config: Config
    limit_s: float | None = None
    fidelity: int | None = None


class Player(Protocol):
    """Asks for configurations and is told how they did."""

    def ask(self, now_s: float) -> Asked | None:
        """The next one; None at the end."""

    def tell(self, asked: Asked, value: float | None, now_s: float, cost_s: float) -> None:
        """The value, high is good; None if it ran out of time."""

    def close(self) -> None:
        """End."""


class Ours:
    """One of our policies."""

    def __init__(self, arms: tuple[Arm, ...], settings: Settings) -> None:
        self._search = Search(settings, arms)

    def ask(self, now_s: float) -> Asked | None:
        """The next trial."""
        asked = self._search.ask(now_s)
        if asked is None:
            return None
        return Asked(asked.trial, self._search.full(asked), asked.limit_s, asked.fidelity)

    def tell(self, asked: Asked, value: float | None, now_s: float, cost_s: float) -> None:
        """Its value."""
        self._search.tell(
            asked.key,
            value,
            now_s=now_s,
            cost_s=cost_s,
            fidelity=asked.fidelity,
            failure=Failure.TIME if value is None else None,
        )

    def close(self) -> None:
        """Nothing to end."""


class Other:
    """An opponent in an environment of its own."""

    def __init__(self, remote: Remote, table: Table, seed: int, climbs: bool) -> None:
        space = table.space
        spaces = {"": space} if isinstance(space, Space) else space
        ladder = None
        if climbs:
            ladder = {"least": LEAST, "most": table.epochs, "factor": FACTOR}
        self._remote = remote
        remote.begin({name: each.spec() for name, each in spaces.items()}, seed, ladder)

    def ask(self, now_s: float) -> Asked | None:
        """What it suggests."""
        del now_s
        answer = self._remote.ask()
        if answer is None:
            return None
        key, config, fidelity = answer
        return Asked(key, config, None, fidelity)

    def tell(self, asked: Asked, value: float | None, now_s: float, cost_s: float) -> None:
        """Its value."""
        del now_s
        self._remote.tell(asked.key, value, cost_s)

    def close(self) -> None:
        """Its process is used again."""


Make = Callable[[Table, float, int], Player]


@dataclass(frozen=True)
class Entry:
    """A player by name.

    Attributes:
        make: from a table, a budget in seconds and a seed.
        models: whether it can choose between models.
        single: whether it can search one space.
        climbs: whether it needs partial trainings.
        slow: it is measured on few sets and seeds.
    """

    make: Make
    models: bool = True
    single: bool = True
    climbs: bool = False
    slow: bool = False

    def fits(self, task: str, kind: str, budget: int, seed: int) -> bool:
        """Whether there is such a cell."""
        asked = self.single if task == "hyperparameters" else self.models
        known = kind == "lcbench" or not self.climbs
        return asked and known and not (self.slow and (budget > 60 or seed >= 5))


def ours(
    policy: str,
    most: int | None = 1,
    climbs: bool = False,
    defaults: bool = False,
    **more: Any,  # noqa: ANN401 - of the settings
) -> Make:
    """One of our policies; ``most`` arms from halves, None for all of them.

    ``climbs``: trains in rungs, on tables that know partial trainings; ``defaults``: in model
    selection each model's default is tried first.
    """

    def make(table: Table, budget_s: float, seed: int) -> Player:
        if isinstance(table.space, Space):
            arms = whole(table.space) if most == 1 else blocks(table.space, most)
        else:
            arms = models(dict(table.space), defaults=table.defaults if defaults else None)
        fidelity = Fidelity(LEAST, table.epochs, FACTOR) if climbs and table.partly else None
        settings = Settings(
            policy=policy, seed=seed, budget_s=budget_s, **{"fidelity": fidelity, **more}
        )
        return Ours(arms, settings)

    return make


def other(environment: str, program: str, *words: str, climbs: bool = False) -> Make:
    """An opponent; its process is started once."""
    remote = Remote(environment, program, words)

    def make(table: Table, budget_s: float, seed: int) -> Player:
        del budget_s
        return Other(remote, table, seed, climbs)

    return make


PLAYERS: dict[str, Entry] = {
    "boasf+": Entry(ours("boasf+", defaults=True)),
    "boasf+ blind": Entry(ours("boasf+"), single=False),
    "boasf+ 4 arms": Entry(ours("boasf+", 4), models=False),
    "boasf+ ladder": Entry(ours("boasf+", climbs=True), models=False),
    "boasf": Entry(ours("boasf", None)),
    "boasf 4 arms": Entry(ours("boasf", 4), models=False),
    "maxucb": Entry(ours("maxucb", 4)),
    "maxucb defaults": Entry(ours("maxucb", defaults=True), single=False),
    "halving": Entry(ours("halving", 4)),
    "round-robin": Entry(ours("round-robin", 4)),
    "random": Entry(ours("random")),
    "optuna tpe": Entry(other("optuna", "optuna_search", "tpe")),
    "tpe+hyperband": Entry(
        other("optuna", "optuna_search", "hyperband", climbs=True), models=False, climbs=True
    ),
    "asha": Entry(other("optuna", "optuna_search", "asha", climbs=True), models=False, climbs=True),
    "smac": Entry(other("smac", "smac_search"), slow=True),
    "bohb": Entry(other("bohb", "bohb_search", climbs=True), models=False, climbs=True, slow=True),
}
