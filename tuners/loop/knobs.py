"""Settings of the runtime that change no bit of a training, tried on a training while it goes on.

The job is trained once. It goes on under one setting for some steps, is drained behind a step, and
goes on from there under another one, on the same warm workers; in the end it keeps the best. No
step is done for the search alone, and the state at the end is that of the job without a search.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.errors import ConfigError
from ithaca.runtime.config.load import LoadedJob, load
from ithaca.runtime.crew import Crew, Silence
from ithaca.runtime.driver import Driver
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, RunEnded, StepDone
from ithaca.runtime.preview import preview
from ithaca.runtime.run import Start, cluster_of, find_checkpoint, hired, mission_of, owning
from ithaca.runtime.seat import Seat
from ithaca.tuners.journal import open_journal, read_journal
from ithaca.tuners.loop.knob_space import check_knobs, knob_words, settings_of
from ithaca.tuners.loop.record import KNOBS_JOURNAL
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.space import Config, Space, SpaceError, Value
from ithaca.tuners.trial import Failure

_WARM = 2
"""Steps at the beginning of a stretch that are not counted: buffers are made, plans are found."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some steps under one setting.

    Attributes:
        setting: of the knobs.
        first: steps behind the training when it began.
        last: and when it ended.
        seconds: of a step, the median; None if it failed.
        reason: why it failed.
    """

    setting: Config
    first: int
    last: int
    seconds: float | None
    reason: str = ""


@dataclass(slots=True)
class Watch:
    """Listens to one stretch, and lets it drain when it has enough steps."""

    enough: int
    driver: Driver | None = None
    seconds: list[float] = field(default_factory=list)
    last: int = 0

    def control(self, driver: Driver) -> None:
        """The driver of the stretch."""
        self.driver = driver

    def __call__(self, event: Event) -> None:
        """One event of the run."""
        if isinstance(event, StepDone):
            self.seconds.append(event.seconds)
            self.last = event.step
            if len(self.seconds) >= self.enough and self.driver is not None:
                self.driver.request_drain()

    @property
    def step_s(self) -> float | None:
        """Seconds of a step: the median behind the warm-up."""
        counted = self.seconds[_WARM:] or self.seconds
        return median(counted) if counted else None


class UnsavedError(UserError):
    """All steps of a stretch are done and their state is lost: no setting is to blame."""

    exit_code = 1


def came_to(setting: Config, first: int, due: int, end: RunEnded, step_s: float | None) -> Stretch:
    """What came of a stretch that was to lead from step ``first`` to step ``due``.

    Raises:
        UnsavedError: it did, but the next one could not go on from there.
    """
    if end.outcome != "failed":
        return Stretch(setting, first, end.step, step_s)
    if end.step >= due:
        raise UnsavedError(
            f"the search stops here: {end.reason}\nNo setting of the knobs is to blame. Put it "
            f"right, then add --resume to go on behind step {first}."
        )
    return Stretch(setting, first, first, None, end.reason)


class LiveJob:
    """One training that goes on under changing settings, on workers that stay warm.

    Args:
        job_file: of the job.
        set: values of the job for the whole training.
        folder: of the run.
    """

    def __init__(self, job_file: Path, set: tuple[str, ...], folder: Path) -> None:
        self._job_file, self._set, self._folder = job_file, set, folder
        self._cluster: Cluster | None = None
        self._agency: Agency | None = None
        self._crew: Crew | None = None
        self._seat: Seat | None = None

    def job(self, setting: Mapping[str, Value]) -> LoadedJob:
        """The job under a setting; ``ConfigError`` if it cannot be."""
        return load(self._job_file, [*self._set, "checkpoint.every=0", *knob_words(setting)])

    def use(self, cluster: Cluster, agency: Agency, crew: Crew, seat: Seat) -> None:
        """Train there from now on."""
        self._cluster, self._agency, self._crew, self._seat = cluster, agency, crew, seat

    def train(self, setting: Config, steps: int) -> tuple[Stretch, RunEnded | None]:
        """Go on for so many steps, or to the end of the job.

        Raises:
            UserError: the workers cannot be used, or the state is not saved.
        """
        assert self._cluster is not None
        assert self._agency is not None
        assert self._crew is not None
        found, _ = find_checkpoint(self._folder, resume=True)
        first = found.step if found is not None else 0
        try:
            loaded = self.job(setting)
            seen = preview(loaded)
        except ConfigError as error:
            return Stretch(setting, first, first, None, str(error)), None
        if len(seen.plan.workers) > len(self._crew.facts):
            raise UserError(f"{setting} needs more workers than {len(self._crew.facts)}")
        crew = self._crew.part(sorted(self._crew.facts)[: len(seen.plan.workers)])
        mission = mission_of(Start(loaded, seen, self._folder, found), crew)
        watch = Watch(steps, last=first)
        driver = Driver(mission, self._cluster, self._agency, crew, [watch], self._seat)
        watch.control(driver)
        end = driver.run()
        self._renew(crew)
        due = min(first + steps, loaded.job.steps)
        return came_to(setting, first, due, end, watch.step_s), end

    def _renew(self, crew: Crew) -> None:
        """Everybody gives up its part; who was lost meanwhile is replaced, under its number."""
        assert self._crew is not None
        assert self._agency is not None
        answers = crew.ask("release", dict.fromkeys(crew.facts, ()), crew.join_s)
        lost = [worker for worker, answer in answers.items() if isinstance(answer, Silence)]
        if not lost:
            return
        for worker in lost:
            self._crew.kill(worker)  # its slot is needed
        fresh = self._agency.hire(len(lost))
        for worker, number in zip(lost, sorted(fresh.facts), strict=True):
            self._crew.add(worker, fresh.actors[number], fresh.facts[number])


@dataclass(frozen=True, slots=True)
class KnobsEnded:
    """How it ended.

    Attributes:
        stretches: all of them.
        best: the setting that was kept.
        end: of the last stretch.
        finished: all steps of the job are done. The last stretch may have been drained just there.
    """

    stretches: tuple[Stretch, ...]
    best: Config
    end: RunEnded
    finished: bool


def tune_knobs(
    job_file: Path,
    space: Space,
    folder: Path,
    *,
    set: tuple[str, ...] = (),
    steps: int = 10,
    trials: int | None = None,
    policy: str = "boasf+",
    seed: int = 0,
    tell: Callable[[Stretch], None] = lambda _: None,
) -> KnobsEnded:
    """Train a job to its end, and find the fastest setting of its knobs on the way.

    Args:
        job_file: of the job.
        space: of the knobs, all of them choices.
        folder: of the run; checkpoints between stretches are in it.
        set: values of the job.
        steps: of a stretch.
        trials: stretches in which settings are compared; default: twice for each.
        policy: how they are divided.
        seed: of the policy.
        tell: told every stretch.

    Raises:
        UserError: the knobs or the job cannot be used, or no setting works.
    """
    try:
        check_knobs(space)
        arms = settings_of(space)
    except SpaceError as error:
        raise UserError(f"these knobs cannot be tuned: {error}") from error
    live = LiveJob(job_file, set, folder)
    jobs = [live.job(arm.full({})) for arm in arms]
    size = max(loaded.job.num_workers for loaded in jobs)
    asked = Settings(
        policy=policy,
        seed=seed,
        maximize=False,
        num_trials=trials or 2 * len(arms),
        surrogate="random",
    )
    first = jobs[0].job
    with (
        owning(folder),
        cluster_of(first, size) as (cluster, agency),
        closing(Seat(first.detect)) as seat,
    ):
        seat.take()  # it comes up beside the workers
        live.use(cluster, agency, hired(first, agency, size), seat)
        journal, search = open_journal(folder / KNOBS_JOURNAL, asked, arms)
        with journal:
            return _all(live, search, journal.write, first.steps, steps, tell)


def found_best(folder: Path, steps: int) -> Config | None:
    """The setting that was kept, if all ``steps`` of the job in ``folder`` are done; or None.

    Raises:
        UserError: the checkpoint or the journal cannot be read, or no setting works.
    """
    if not (folder / KNOBS_JOURNAL).exists():
        return None
    found, _ = find_checkpoint(folder, resume=True)
    if found is None or found.step < steps:
        return None
    return _best(read_journal(folder / KNOBS_JOURNAL)[0])


def _all(
    live: LiveJob,
    search: Search,
    write: Callable[..., None],
    whole: int,
    steps: int,
    tell: Callable[[Stretch], None],
) -> KnobsEnded:
    stretches: list[Stretch] = []
    began_s = time.monotonic()
    for trial in search.running:
        write(search.lose(trial.number, now_s=trial.began_s, cost_s=0.0))
    end: RunEnded | None = None
    while end is None or end.step < whole:
        now_s = time.monotonic() - began_s
        asked = search.ask(now_s)
        if asked is None:
            setting, count = _best(search), whole
        else:
            write(asked)
            setting, count = search.full(asked), steps
        stretch, stopped = live.train(setting, count)
        end = stopped or end
        stretches.append(stretch)
        tell(stretch)
        if asked is None and stretch.seconds is None:
            raise UserError(f"the job fails under {setting}: {stretch.reason}")
        if asked is not None:
            now_s = time.monotonic() - began_s
            write(
                search.tell(
                    asked.trial,
                    stretch.seconds,
                    now_s=now_s,
                    cost_s=now_s - asked.now_s,
                    failure=None if stretch.seconds is not None else Failure.ERROR,
                    reason=stretch.reason,
                )
            )
    return KnobsEnded(tuple(stretches), _best(search), end, end.step >= whole)


def _best(search: Search) -> Config:
    """The setting with the lowest median step.

    Raises:
        UserError: none works.
    """
    seconds: dict[str, list[float]] = {}
    for trial in search.trials.values():
        if trial.value is not None:
            seconds.setdefault(trial.arm, []).append(trial.value)
    if not seconds:
        reasons = {trial.reason for trial in search.trials.values()}
        raise UserError(f"the job works under no setting of its knobs: {'; '.join(reasons)}")
    name = min(seconds, key=lambda arm: median(seconds[arm]))
    return search.arms[name].full({})
