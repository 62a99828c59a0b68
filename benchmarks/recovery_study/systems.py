"""All systems of the study by name, each run through a trace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.recovery_study.baselines.bamboo import Bamboo
from benchmarks.recovery_study.baselines.checkpoint import Checkpoint
from benchmarks.recovery_study.baselines.clairvoyant import clairvoyant
from benchmarks.recovery_study.baselines.odyssey import Odyssey
from benchmarks.recovery_study.baselines.oobleck import Oobleck
from benchmarks.recovery_study.baselines.ours import Ours, Proposals
from benchmarks.recovery_study.baselines.recycle import ReCycle
from benchmarks.recovery_study.deployment import System
from benchmarks.recovery_study.run import Progress, run
from benchmarks.recovery_study.traces import Trace
from benchmarks.recovery_study.world import World
from ithaca.recovery.strategy import StrategyName

Runner = Callable[[World, Trace, Proposals], Progress]

BASELINES: dict[str, Callable[..., System]] = {
    "checkpoint": Checkpoint,
    "bamboo": Bamboo,
    "oobleck": Oobleck,
    "recycle": ReCycle,
    "odyssey": Odyssey,
}
FIXED = {
    "fixed-reroute": (StrategyName.REROUTE, StrategyName.SHADOW, StrategyName.KEEP),
    "fixed-reshape": (StrategyName.RESHAPE, StrategyName.KEEP),
}
"""Ours with one strategy alone. Always rolling back is the tuned ``checkpoint``."""


def _baseline(name: str, tuned: bool, world: World, trace: Trace, _: Proposals) -> Progress:
    return run(trace, BASELINES[name](world, trace, tuned=tuned))


def _ours(
    strategies: tuple[StrategyName, ...] | None, world: World, trace: Trace, known: Proposals
) -> Progress:
    return run(trace, Ours(world, known, strategies))


def _in_background(world: World, trace: Trace, known: Proposals) -> Progress:
    return run(trace, Ours(world, known, background=True))


SYSTEMS: dict[str, Runner] = {
    f"{name}-{'tuned' if tuned else 'published'}": partial(_baseline, name, tuned)
    for name in BASELINES
    for tuned in (False, True)
}
SYSTEMS["ours"] = partial(_ours, None)
SYSTEMS["ours-background"] = _in_background
for _name, _strategies in FIXED.items():
    SYSTEMS[_name] = partial(_ours, _strategies)
SYSTEMS["clairvoyant"] = clairvoyant
