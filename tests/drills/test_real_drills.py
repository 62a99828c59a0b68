"""Drills on real processes: whatever happens, every step has the bits of the undisturbed run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ithaca.recovery.drill import Trace, differences, judge
from ithaca.recovery.fault import Fault
from ithaca.runtime.drill.tell import tell
from tests.helpers.drill_cases import CASES, DETECT_S, LAYOUTS, STEPS, Case
from tests.helpers.drill_pool import Pool

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

BASE: dict[str, Any] = {
    "steps": STEPS,
    "detect": f"{DETECT_S:g}s",
    "checkpoint": {"every": 2},
    "validation": {"every": 4, "batches": 2},
    "recovery": {"replace": False},
    "optimizer": {"lr": 1e-2, "clip": 0.5, "warmup": 2},
}


def changed(case: Case) -> dict[str, Any]:
    """What the job of ``case`` is but for its faults."""
    merged = {**BASE, "layout": {**LAYOUTS[case.layout], "micro_batches": 8}}
    for key, value in case.changes.items():
        old = merged.get(key)
        merged[key] = {**old, **value} if isinstance(old, dict) else value
    return merged


class References:
    """The bits of jobs without faults, each computed once, on one worker: layouts change no bit."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self._pool, self._folder = pool, folder
        self._known: dict[str, Trace] = {}

    def of(self, case: Case) -> Trace:
        """The bits of the job of ``case``."""
        changes = changed(case) | {"layout": {"pipelines": 1, "stages": 1, "micro_batches": 8}}
        changes |= {"recovery": {"replace": False}}
        key = json.dumps(changes, sort_keys=True)
        if key not in self._known:
            folder = self._folder / str(len(self._known))
            self._known[key] = self._pool.undisturbed(folder, **changes)
        return self._known[key]


@pytest.fixture(scope="session")
def references(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> References:
    return References(pool, tmp_path_factory.mktemp("references"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each drill; without ``--soak`` for each that belongs to the suite."""
    if "case" in metafunc.fixturenames:
        soak = metafunc.config.getoption("--soak", default=False)
        chosen = [case for case in CASES if soak or case.fast]
        metafunc.parametrize("case", chosen, ids=[case.name for case in chosen])


def test_a_drill_leaves_no_trace(
    case: Case, pool: Pool, references: References, tmp_path: Path
) -> None:
    reference = references.of(case)
    result = pool.disturbed(tmp_path, case.faults, **changed(case))
    problems = judge(case.expected, result, reference, [Fault.parse(text) for text in case.faults])
    assert not problems, "\n".join(tell(result, problems))


def test_a_turned_bit_that_nobody_looks_for_shows(
    pool: Pool, references: References, tmp_path: Path
) -> None:
    case = next(case for case in CASES if case.name == "flip-wire-w0")
    unchecked = {**changed(case), "integrity": {"wire": False}}
    result = pool.disturbed(tmp_path, case.faults, **unchecked)
    assert result.struck == case.faults
    assert result.outcome == "finished"
    assert any("after step 3" in line for line in differences(result.trace, references.of(case)))


def test_fast_numerics_do_not_pass(pool: Pool, references: References, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "crash-after-B")
    exact = references.of(case)
    fast = {**changed(case), "numerics": "fast", "layout": {"pipelines": 4, "stages": 1}}
    trace = pool.undisturbed(tmp_path / "fast", **fast)
    assert set(trace.losses) == set(exact.losses)
    assert differences(trace, exact)
