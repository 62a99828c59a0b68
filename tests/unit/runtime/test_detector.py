"""What is enough to call a worker failed, and what is not."""

from __future__ import annotations

from ithaca.planner.plan import Plan
from ithaca.planner.schedule import programs
from ithaca.recovery.failure import Failure, FailureClass
from ithaca.runtime.control.surface import Beat
from ithaca.runtime.detector import CONFIRM_S, Detector
from ithaca.runtime.events import Missed
from ithaca.runtime.orders import Trouble

PLAN = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0-1 0:2@w0 2:4@w1")
PROGRAMS = {worker: (program,) for worker, program in programs(PLAN).items()}
WORKERS = (0, 1)


class Watched:
    """A detector and its clock."""

    def __init__(self, detect_s: float = 2.0) -> None:
        self.now = 0.0
        self.detector = Detector(detect_s, detect_s / 4, lambda: self.now, lambda _: "n", str)

    def beat(self, *workers: int, step: int = 3, since_s: float = 0.1, **more: str) -> None:
        for worker in workers:
            action = more.get("action", "F 0:2 m0" if worker == 0 else "F 2:4 m0")
            complaint = more.get("complaint", "")
            self.detector.beat(Beat(worker, "a", 0, step, action, since_s, complaint=complaint))

    def look(self, after_s: float = 0.05) -> tuple[Failure, ...]:
        self.now += after_s
        return self.detector.look(WORKERS, PROGRAMS, 0.0)

    def wait(self, seconds: float, *beating: int) -> tuple[Failure, ...]:
        """Look every 50 ms; who beats does so every half second."""
        for turn in range(round(seconds / 0.05)):
            if turn % 10 == 0:
                self.beat(*beating)
            found = self.look()
            if found:
                return found
        return ()


def missed(worker: int, corrupt: bool = False) -> Missed:
    return Missed(
        time_s=0.0, worker=worker, generation=0, step=3, action="F", reason="lost", corrupt=corrupt
    )


def test_workers_that_beat_are_left_alone() -> None:
    assert Watched().wait(60.0, 0, 1) == ()


def test_who_differs_is_corrupt_and_says_since_when() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.detector.differs(1, "after step 3 the states differ", 2)
    watched.detector.differs(1, "after step 4 the states differ", 3)
    (failure,) = watched.look()
    assert (failure.worker, failure.kind) == (1, FailureClass.CORRUPTION)
    assert (failure.trusted, failure.evidence) == (2, "after step 3 the states differ")
    assert watched.look() == ()


def test_who_differs_and_is_gone_has_spoiled_what_is_left() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.detector.differs(7, "after step 3 the states differ", 2)
    (failure,) = watched.look()
    assert (failure.worker, failure.kind, failure.trusted) == (None, FailureClass.CORRUPTION, 2)


def test_a_silent_worker_hangs() -> None:
    watched = Watched()
    watched.beat(0, 1)
    (failure,) = watched.wait(10.0, 0)
    assert (failure.worker, failure.kind) == (1, FailureClass.HANG)
    assert 2.0 <= watched.now < 2.5
    assert failure.action == "F 2:4 m0"


def test_a_silent_worker_without_which_nobody_could_go_on_is_cut_off() -> None:
    watched = Watched()
    watched.beat(0, 1)
    for step in range(4, 60):
        watched.now += 0.05
        watched.beat(0, step=step)
        found = watched.detector.look(WORKERS, PROGRAMS, 0.0)
    (failure,) = found
    assert (failure.worker, failure.kind) == (1, FailureClass.PARTITION)


def test_what_this_process_slept_through_is_held_against_nobody() -> None:
    watched = Watched()
    watched.beat(0, 1)
    assert watched.look(after_s=30.0) == ()
    watched.beat(0, 1)
    assert watched.wait(5.0, 0, 1) == ()


def test_the_oracle_of_a_sleeping_controller_sees_one_that_forgives_nothing() -> None:
    watched = Watched()
    watched.detector._beat_s = 1e9
    watched.beat(0, 1)
    assert watched.look(after_s=30.0) != ()


def test_a_closed_stream_is_enough_after_a_moment() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.detector.left(1)
    assert watched.look(CONFIRM_S / 2) == ()
    (failure,) = watched.look(CONFIRM_S)
    assert (failure.worker, failure.kind) == (1, FailureClass.CRASH)


def test_a_stream_that_is_opened_again_is_nothing() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.detector.left(1)
    watched.look(CONFIRM_S / 2)
    watched.detector.attends(1)
    assert watched.wait(5.0, 0, 1) == ()


def test_who_beats_after_its_stream_closed_is_not_dead() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.now += 0.1
    watched.detector.left(1)
    watched.now += 0.1
    watched.beat(1)
    watched.detector.missed(missed(0))
    assert watched.wait(1.0, 0, 1) == ()
    assert watched.wait(10.0, 0) != ()


def test_a_peer_that_misses_it_saves_the_moment() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.detector.missed(missed(0))
    assert watched.look(0.001) == ()
    watched.detector.left(1)
    (failure,) = watched.look(0.001)
    assert failure.worker == 1


def test_who_misses_a_message_is_not_to_blame() -> None:
    watched = Watched()
    watched.detector.missed(missed(0))
    assert watched.wait(1.0, 0, 1) == ()
    waited = watched.detector.alarmed(WORKERS)
    assert waited is not None
    assert 0.9 < waited < 1.1
    watched.detector.clear(WORKERS)
    assert watched.detector.alarmed(WORKERS) is None


def test_a_message_that_was_changed_is_nobodys_fault_but_a_failure() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.detector.missed(missed(0, corrupt=True))
    (failure,) = watched.look(0.001)
    assert (failure.worker, failure.kind) == (None, FailureClass.CORRUPTION)


def test_an_error_of_its_own_is_the_first_cause() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.detector.died(0, "its process died")
    watched.detector.trouble(Trouble(1, "n", 3, "B 2:4 m1", "ValueError: no", "Traceback", False))
    first, second = watched.look()
    assert (first.worker, first.evidence, first.traceback) == (1, "ValueError: no", "Traceback")
    assert second.worker == 0


def test_a_worker_that_only_missed_another_is_no_culprit() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.detector.trouble(Trouble(1, "n", 3, "B 2:4 m1", "lost", "", True))
    assert watched.look() == ()


def test_a_worker_that_complains_of_its_node_goes() -> None:
    watched = Watched()
    watched.beat(0, 1)
    watched.beat(1, complaint="the daemon of its node is gone")
    (failure,) = watched.look()
    assert (failure.worker, failure.kind) == (1, FailureClass.NODE)


def test_a_new_worker_has_time_for_its_first_beat() -> None:
    watched = Watched()
    watched.beat(0)
    watched.wait(1.5, 0)
    watched.detector.expect(1)
    assert watched.wait(1.5, 0) == ()
    (failure,) = watched.wait(3.0, 0)
    assert failure.worker == 1


def test_a_node_that_is_lost_takes_all_its_workers() -> None:
    watched = Watched()
    watched.detector._place = lambda _: "one"
    watched.beat(0, 1)
    watched.beat(1, complaint="the daemon of its node is gone")
    assert [failure.worker for failure in watched.look()] == [1, 0]
