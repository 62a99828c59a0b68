"""Makes checkpoints while training goes on: asks the writers, collects, commits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ithaca.planner.plan import Plan
from ithaca.runtime.checkpoint.damage import CheckpointFailedError
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.orders import NotSaved, Saved
from ithaca.runtime.writers import writer_of

Save = Callable[[int, int, str], None]
"""Lets a worker write its layers of a step into a folder; the answer comes later."""


@dataclass(frozen=True, slots=True)
class Written:
    """A verified checkpoint, and how long it took from the request."""

    found: Found
    seconds: float


@dataclass(slots=True)
class _Open:
    """A checkpoint that workers are writing."""

    step: int
    ledger: Ledger
    began: float
    writers: set[int]
    files: dict[str, LayerFile] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


class StaleCopiesError(CheckpointFailedError):
    """Writers had copied by an older plan; asked again, they have copied by the newer one."""

    def __init__(self, step: int, reason: str, ledger: Ledger) -> None:
        super().__init__(step, reason)
        self.ledger = ledger


class Saver:
    """One checkpoint at a time; a failed one costs nothing but itself.

    Args:
        store: the run's checkpoints.
        save: lets a worker write.
        names: of the layers, in order.
        describe: makes a manifest from step, files, state hash and ledger.
    """

    def __init__(
        self,
        store: CheckpointStore,
        save: Save,
        names: Sequence[str],
        describe: Callable[[int, tuple[LayerFile, ...], str, Ledger], Manifest],
    ) -> None:
        self._store = store
        self._save = save
        self._names = tuple(names)
        self._describe = describe
        self._open: _Open | None = None

    @property
    def busy(self) -> bool:
        """Whether workers are writing."""
        return self._open is not None

    def begin(self, step: int, ledger: Ledger, plan: Plan) -> None:
        """Ask the writers under ``plan`` for their layers of ``step``, which they have copied.

        Raises:
            CheckpointFailedError: the disk does not take it.
        """
        folder = self._store.begin(step)
        writers = {writer_of(plan, layer) for layer in range(plan.num_layers)}
        self._open = _Open(step, ledger, time.perf_counter(), writers)
        for writer in sorted(writers):
            self._save(writer, step, str(folder))

    def take(self, step: int, worker: int, answer: Saved | NotSaved) -> Written | None:
        """Take a writer's answer; the checkpoint, if that completed it.

        Raises:
            CheckpointFailedError: a writer or the disk failed; the checkpoints before it stay.
        """
        now = self._open
        if now is None or now.step != step or worker not in now.writers:
            return None  # of one that was given up
        if isinstance(answer, NotSaved):
            raise self.give_up(answer.reason)
        now.writers.discard(worker)
        now.files |= {file.name: file for file in answer.files}
        now.hashes |= answer.hashes
        if now.writers:
            return None
        missing = [name for name in self._names if name not in now.files]
        if missing:
            # A new plan came between: some had copied by the old one, some by the new one.
            why = self.give_up(f"nobody had a copy of {', '.join(missing)} of that step any more")
            raise StaleCopiesError(why.step, why.reason, now.ledger)
        return self._commit(now)

    def give_up(self, reason: str) -> CheckpointFailedError:
        """Abandon what is being written; the error that says so."""
        now, self._open = self._open, None
        assert now is not None, "nothing is being written"
        self._store.abandon(now.step)
        return CheckpointFailedError(now.step, reason)

    def _commit(self, now: _Open) -> Written:
        self._open = None
        files = tuple(now.files[name] for name in self._names)
        state_hash = combine({name: int(value, 16) for name, value in now.hashes.items()})
        found = self._store.commit(self._describe(now.step, files, state_hash, now.ledger))
        return Written(found, time.perf_counter() - now.began)


def utc_now() -> str:
    """This moment, ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
