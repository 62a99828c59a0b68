"""The keeper: decides when a checkpoint is due, has it made, and says what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from ithaca.planner.plan import Plan
from ithaca.runtime.checkpoint.damage import CheckpointFailedError
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.events import CheckpointWritten, Event, StepDone, Warned
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.mission import Mission
from ithaca.runtime.orders import NotSaved, Saved
from ithaca.runtime.saver import Save, Saver, StaleCopiesError, Written, utc_now


class Keeper:
    """Checkpoints of one run, one at a time; called from the controller's thread alone.

    Args:
        mission: what is carried out.
        save: lets a worker write, and tells later what it wrote.
        emit: takes events.
    """

    def __init__(self, mission: Mission, save: Save, emit: Callable[[Event], None]) -> None:
        self._mission = mission
        self._emit = emit
        self._store = CheckpointStore(mission.folder, mission.job.checkpoint.keep)
        if mission.resume is not None:
            self._store.distrust_after(mission.resume.step)
        self._plan = mission.plan
        self._saver = Saver(self._store, save, mission.names, self._manifest)
        self._due: tuple[int, Ledger] | None = None
        self._wanted = mission.resume.step if mission.resume else -1
        self.step: int | None = mission.resume.step if mission.resume else None
        """Committed steps in the newest whole checkpoint; None before the first."""
        self.state_hash: str | None = None
        """Of the newest checkpoint that this run has written."""
        self.unsaved = ""
        """Why the last checkpoint that failed did."""
        self._asked_again: set[int] = set()
        self._tries_left = 1
        """How often the end of the run may still be saved; until it has come at least once."""
        self._ending = False

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written or due."""
        return self._saver.busy or self._due is not None

    def done(self, event: StepDone, ledger: Ledger) -> None:
        """A step was committed; ``ledger`` is the one after it."""
        every, last = self._mission.job.checkpoint.every, self._mission.job.steps
        if event.step == last or (every and event.step % every == 0):
            self.want(event.step, ledger)

    def want(self, step: int, ledger: Ledger) -> None:
        """Note that ``step``, the last committed one, is to be saved; once."""
        if step > self._wanted:
            self._wanted = step
            self._due = (step, ledger)

    def go_on(self) -> None:
        """Begin what is due."""
        if self._due is None or self._saver.busy:
            return
        (step, ledger), self._due = self._due, None
        try:
            self._saver.begin(step, ledger, self._plan)
        except CheckpointFailedError as error:
            self._not_saved(error)

    def take(self, step: int, worker: int, answer: Saved | NotSaved) -> None:
        """A writer's answer."""
        try:
            written = self._saver.take(step, worker, answer)
        except StaleCopiesError as error:
            if step == self._wanted and step not in self._asked_again:
                self._asked_again.add(step)
                self._due = (step, error.ledger)
            else:
                self._not_saved(error)
            return
        except CheckpointFailedError as error:
            self._not_saved(error)
            return
        if written is not None:
            self._written(written)

    def change(self, plan: Plan) -> None:
        """Another plan is in force: what its predecessor's writers have not written is given up."""
        self._plan = plan
        if self._saver.busy:
            self._not_saved(self._saver.give_up("its writers got another plan"))

    def last(self, step: int, ledger: Ledger, tries_left: int = 0) -> None:
        """The run ends with ``step``: save it, unless that is done or under way; or again.

        Args:
            step: the last committed one.
            ledger: after it.
            tries_left: how often this will be called again if it fails.
        """
        self._ending, self._tries_left = True, tries_left
        if self.step != step and not self.busy:
            self._wanted = step - 1
            self.want(step, ledger)

    def back_to(self, found: Found) -> None:
        """Training goes back to ``found``: what was saved later must not be taken for newer."""
        self._store.distrust_after(found.step)
        self._due, self._wanted, self.step = None, found.step, found.step

    def discard_after(self, step: int) -> None:
        """What was saved behind ``step`` may be wrong: it is removed, what is begun given up."""
        self._due = None
        if self._saver.busy:
            self._not_saved(self._saver.give_up(f"its state may be wrong since step {step}"))
        self._store.discard_after(step)
        found = self.find()
        self.step = found.step if found else None
        self.state_hash = found.manifest.state_hash if found else None

    def find(self) -> Found | None:
        """The newest whole checkpoint on the disk, verified."""
        return self._store.newest().found

    def know(self, written: CheckpointWritten | None) -> None:
        """What another controller of this run has written last."""
        if written is not None:
            self.step, self.state_hash = written.step, written.state_hash
            self._wanted = max(self._wanted, written.step)

    def _written(self, written: Written) -> None:
        found = written.found
        self.step, self.state_hash = found.step, found.manifest.state_hash
        self._emit(
            CheckpointWritten(
                time_s=time.time(),
                step=found.step,
                path=str(found.folder),
                bytes=found.manifest.total_bytes,
                seconds=written.seconds,
                state_hash=found.manifest.state_hash,
            )
        )

    def _not_saved(self, error: CheckpointFailedError) -> None:
        self.unsaved = str(error)
        over = self._ending or error.step >= self._mission.job.steps
        again = "it is tried again" if self._tries_left else "no further try is made"
        goes_on = again if over else "training goes on"
        self._emit(Warned(time_s=time.time(), message=f"{error}; {goes_on}"))

    def _manifest(
        self, step: int, files: tuple[LayerFile, ...], state_hash: str, ledger: Ledger
    ) -> Manifest:
        mission = self._mission
        return Manifest(
            job=mission.job.name,
            step=step,
            seed=mission.job.seed,
            created=utc_now(),
            config=mission.config,
            fingerprint=mission.fingerprint,
            identity=mission.identity,
            plan=str(self._plan),
            generation=self._plan.generation,
            layers=files,
            state_hash=state_hash,
            ledger=ledger,
        )
