"""Blame: always the one that stands still, never one that waits, nobody while work goes on."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.program import Program
from ithaca.planner.schedule import programs as make_programs
from ithaca.recovery import blame as blame_module
from ithaca.recovery.blame import (
    DONE,
    OVERDUE_FACTOR,
    PATIENCE,
    WAIT,
    Reason,
    Sign,
    Suspect,
    blame,
    waits_for,
)
from tests.helpers.plans import random_plan
from tests.helpers.stuck_run import Stand, StuckRun

DETECT_S = 2.0
seeds = st.integers(0, 2**32)


def sign(worker: int, stand: Stand, since_s: float, age_s: float = 0.3, says: bool = True) -> Sign:
    """What a worker at ``stand`` beats; ``says``: it tells when it is blocked."""
    text = WAIT + stand.action if stand.blocked and says else stand.action
    return Sign(worker, 0, stand.step, text, since_s, age_s, expected_s=0.05)


class Scene:
    """A run with a victim that never ends one action, played until nothing moves."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        while True:
            self.programs = make_programs(random_plan(self.rng))
            if len(self.programs) > 1:
                break
        self.victim = self.rng.choice(sorted(self.programs))
        at = self.rng.randrange(len(self.programs[self.victim].actions))
        run = StuckRun(self.programs, self.victim, self.rng.randrange(2), at)
        self.stands = run.play(self.rng)
        self.working = {w for w in self.programs if not run.done(w)}

    def by_worker(self) -> dict[int, tuple[Program, ...]]:
        return {worker: (program,) for worker, program in self.programs.items()}

    def signs(self, **victim: Any) -> list[Sign]:  # noqa: ANN401
        """Everybody that has not ended, overdue by now; the victim with what is given."""
        late = DETECT_S + 0.1
        signs = [sign(w, self.stands[w], late + self.rng.random()) for w in sorted(self.working)]
        return [replace(s, **victim) if s.worker == self.victim else s for s in signs]


def accused(found: tuple[Suspect, ...]) -> list[tuple[int, Reason]]:
    return [(suspect.worker, suspect.reason) for suspect in found]


@settings(max_examples=300)
@given(seeds)
def test_the_one_that_is_stuck_is_blamed_and_nobody_who_waits(seed: int) -> None:
    scene = Scene(seed)
    found = blame(scene.signs(), scene.by_worker(), DETECT_S)
    assert accused(found) == [(scene.victim, Reason.OVERDUE)]


@settings(max_examples=300)
@given(seeds)
def test_a_stopped_one_is_blamed_and_nobody_who_waits(seed: int) -> None:
    scene = Scene(seed)
    # Nothing of the others is fresh either: beats are as old as they may be.
    signs = [
        replace(s, age_s=DETECT_S * (1.01 if s.worker == scene.victim else 0.9))
        for s in scene.signs(since_s=0.1)
    ]
    if len(signs) > 1:
        found = blame(signs, scene.by_worker(), DETECT_S)
        assert (scene.victim, Reason.SILENT) in accused(found)
        assert len(found) == 1


@settings(max_examples=200)
@given(seeds, st.floats(1.0, 100.0))
def test_a_long_computation_is_waited_for(seed: int, expected_s: float) -> None:
    scene = Scene(seed)
    for part in (0.1, 0.99):
        since_s = part * OVERDUE_FACTOR * expected_s
        signs = [
            replace(s, since_s=since_s + 50.0) if s.worker != scene.victim else s
            for s in scene.signs(since_s=max(0.0, since_s - 0.3), expected_s=expected_s)
        ]
        assert blame(signs, scene.by_worker(), DETECT_S) == ()


@settings(max_examples=200)
@given(seeds, st.integers(0, 400))
def test_nobody_is_blamed_while_everybody_makes_progress(seed: int, moves: int) -> None:
    rng = Random(seed)
    programs = make_programs(random_plan(rng))
    stands = StuckRun(programs, None, 0, 0).play(rng, moves)
    signs = [sign(w, stands[w], rng.random() * 1.6, rng.random() * 0.39) for w in stands]
    assert blame(signs, {w: (p,) for w, p in programs.items()}, DETECT_S) == ()


@settings(max_examples=100)
@given(seeds, st.floats(2.0, 60.0))
def test_our_own_lateness_is_nobody_elses_silence(seed: int, late_s: float) -> None:
    rng = Random(seed)
    programs = make_programs(random_plan(rng))
    stands = StuckRun(programs, None, 0, 0).play(rng, rng.randrange(200))
    signs = [sign(w, stands[w], 0.1, rng.random() + late_s) for w in stands]
    by_worker = {w: (p,) for w, p in programs.items()}
    assert blame(signs, by_worker, DETECT_S, late_s) == ()
    assert blame(signs, by_worker, DETECT_S, late_s=0.0) != () or late_s < PATIENCE * DETECT_S


def test_all_silent_at_once_is_believed_later() -> None:
    signs = [Sign(w, 0, 3, "F 0:1 m0", 0.0, DETECT_S * 1.5) for w in range(3)]
    assert blame(signs, {}, DETECT_S) == ()
    late = [replace(s, age_s=DETECT_S * PATIENCE) for s in signs]
    assert accused(blame(late, {}, DETECT_S)) == [(w, Reason.SILENT) for w in range(3)]
    assert blame([], {}, DETECT_S) == ()


def circle(since_s: float) -> list[Sign]:
    """Two workers in a REDUCE, each of which says that it waits: a message was lost."""
    text = WAIT + "REDUCE 0:1 w0:0 w1:1"
    return [Sign(0, 0, 4, text, since_s, 0.1), Sign(1, 0, 4, text, since_s + 0.5, 0.1)]


def reducing() -> dict[int, tuple[Program, ...]]:
    head = "program worker={} generation=0 layers=1 micro_batches=2\n"
    body = "F 0:1 m{0}\nB 0:1 m{0}\nREDUCE 0:1 w0:0 w1:1\nCOMMIT\nSTEP 0:1\n"
    return {w: (Program.parse(head.format(w) + body.format(w)),) for w in range(2)}


def test_a_circle_is_broken_in_the_end() -> None:
    assert blame(circle(DETECT_S * 1.2), reducing(), DETECT_S) == ()
    found = blame(circle(DETECT_S * PATIENCE), reducing(), DETECT_S)
    assert accused(found) == [(1, Reason.CIRCLE)]
    assert "a message was lost" in found[0].evidence


def parted(seed: int) -> tuple[frozenset[int], list[Sign], dict[int, tuple[Program, ...]]] | None:
    """A pair between which nothing arrives, and where all are when nothing moves any more."""
    rng = Random(seed)
    programs = make_programs(random_plan(rng))
    if len(programs) < 3:
        return None
    pair = frozenset(rng.sample(sorted(programs), 2))
    run = StuckRun(programs, None, 0, 0, pair)
    stands = run.play(rng)
    late = DETECT_S * PATIENCE
    signs = [sign(w, stands[w], late + rng.random()) for w in sorted(programs) if not run.done(w)]
    return (pair, signs, {w: (p,) for w, p in programs.items()}) if signs else None


def outsiders(seeds_: range) -> list[int]:
    """Who was taken out although it was at no end of the broken link."""
    found = []
    for seed in seeds_:
        scene = parted(seed)
        if scene is not None:
            pair, signs, by_worker = scene
            ((worker, reason),) = accused(blame(signs, by_worker, DETECT_S))
            assert reason is Reason.CIRCLE
            found += [worker] if worker not in pair else []
    return found


def test_if_a_link_is_broken_one_of_its_ends_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outsiders(range(200)) == []
    # The control: without regard to the links, whoever happens to wait longest.
    monkeypatch.setattr(blame_module, "silent_links", lambda *_: ())
    assert outsiders(range(200))


@pytest.mark.parametrize("needed", [0, 1])
def test_of_two_ends_the_one_that_is_needed_stays(needed: int) -> None:
    late = circle(DETECT_S * PATIENCE)
    found = blame(late, reducing(), DETECT_S, needed=frozenset({needed}))
    assert accused(found) == [(1 - needed, Reason.CIRCLE)]
    everybody = blame(late, reducing(), DETECT_S, needed=frozenset({0, 1}))
    assert accused(everybody) == [(1, Reason.CIRCLE)]


def test_who_is_done_may_rest_and_is_no_part_of_a_circle() -> None:
    done = Sign(2, 0, 9, DONE, 1000.0, 0.1)
    assert blame([done], {}, DETECT_S) == ()
    assert blame([done, *circle(DETECT_S * 1.2)], reducing(), DETECT_S) == ()
    found = blame([done, *circle(DETECT_S * PATIENCE)], reducing(), DETECT_S)
    assert accused(found) == [(1, Reason.CIRCLE)]
    assert accused(blame([replace(done, age_s=9.0), *circle(0.1)], reducing(), DETECT_S)) == [
        (2, Reason.SILENT)
    ]


def test_the_evidence_can_be_read() -> None:
    stuck = Sign(1, 0, 4, "B 0:1 m1", 9.0, 0.25, expected_s=0.5)
    waits = Sign(0, 0, 4, WAIT + "REDUCE 0:1 w0:0 w1:1", 9.0, 0.25)
    (found,) = blame([waits, stuck], reducing(), DETECT_S)
    assert found == Suspect(
        1, Reason.OVERDUE,
        "in B 0:1 m1 of step 5 for 9.0 s and waiting for nobody; expected 0.5 s",
    )  # fmt: skip


def test_a_worker_of_an_older_generation_is_behind() -> None:
    new = Sign(0, 1, 4, WAIT + "meet", 9.0, 0.1)
    old = Sign(1, 0, 4, "B 0:1 m1", 9.0, 0.1)
    assert waits_for([new, old], reducing()) == {0: {1}, 1: frozenset()}
    assert accused(blame([new, old], reducing(), DETECT_S)) == [(1, Reason.OVERDUE)]


def test_a_validation_comes_before_the_next_step() -> None:
    train = reducing()
    text = "program worker={} generation=0 layers=1 micro_batches=2\nF 0:1 m{}\nCOMMIT\n"
    both = {w: (Program.parse(text.format(w, w + 2)), *train[w]) for w in train}
    ahead = Sign(0, 0, 4, WAIT + "REDUCE 0:1 w0:0 w1:1", 9.0, 0.1)
    behind = Sign(1, 0, 4, "F 0:1 m3", 9.0, 0.1)
    assert waits_for([ahead, behind], both) == {0: {1}, 1: frozenset()}


def innocent_blamed(seeds_: range) -> bool:
    """Whether somebody who waits is blamed in one of many scenes."""
    for seed in seeds_:
        scene = Scene(seed)
        found = accused(blame(scene.signs(), scene.by_worker(), DETECT_S))
        if any(worker != scene.victim for worker, _ in found):
            return True
    return False


def test_without_the_graph_the_innocent_are_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not innocent_blamed(range(60))
    monkeypatch.setattr(
        blame_module, "waits_for", lambda signs, _: {s.worker: frozenset() for s in signs}
    )
    assert innocent_blamed(range(60))


def test_without_what_workers_say_the_stuck_one_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blame_module, "WAIT", "WAITED ")
    monkeypatch.setattr("tests.unit.recovery.test_blame.WAIT", "")
    assert innocent_blamed(range(60))


def test_without_regard_to_expectations_the_slow_are_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(1)
    signs = scene.signs(since_s=3.0, expected_s=5.0)
    assert blame(signs, scene.by_worker(), DETECT_S) == ()
    monkeypatch.setattr(blame_module, "OVERDUE_FACTOR", 0.0)
    assert blame(signs, scene.by_worker(), DETECT_S) != ()
