"""Makes checkpoints while training goes on: asks the writers, collects, commits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ithaca.planner.plan import Plan
from ithaca.runtime.checkpoint.damage import CheckpointFailedError
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.crew import Crew, result
from ithaca.runtime.engine.hashing import combine
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.orders import NotSaved, Saved
from ithaca.runtime.worker import writer_of


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
    files: dict[str, LayerFile] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


class Saver:
    """One checkpoint at a time; a failed one costs nothing but itself.

    Args:
        store: the run's checkpoints.
        crew: the workers.
        plan: says who writes which layer.
        names: of the layers, in order.
        describe: makes a manifest from step, files, state hash and ledger.
    """

    def __init__(
        self,
        store: CheckpointStore,
        crew: Crew,
        plan: Plan,
        names: Sequence[str],
        describe: Callable[[int, tuple[LayerFile, ...], str, Ledger], Manifest],
    ) -> None:
        self._store = store
        self._crew = crew
        self._writers = sorted({writer_of(plan, layer) for layer in range(plan.num_layers)})
        self._names = tuple(names)
        self._describe = describe
        self._open: _Open | None = None
        self.futures: dict[Any, int] = {}
        self.saved: Written | None = None

    @property
    def busy(self) -> bool:
        """Whether workers are writing."""
        return self._open is not None

    def begin(self, step: int, ledger: Ledger) -> None:
        """Ask the writers for their layers of ``step``, which they have copied.

        Raises:
            CheckpointFailedError: the disk does not take it.
        """
        folder = self._store.begin(step)
        self._open = _Open(step, ledger, time.perf_counter())
        self.futures = self._crew.save(self._writers, step, str(folder))

    def take(self, future: Any) -> Written | None:  # noqa: ANN401 - Ray's reference
        """Take a writer's answer; the checkpoint, if that completed it.

        Raises:
            CheckpointFailedError: a writer or the disk failed; the checkpoints before it stay.
        """
        now = self._open
        assert now is not None
        del self.futures[future]
        try:
            saved = result(future)
        except Exception as error:
            self._abandon(now.step)
            raise CheckpointFailedError(now.step, f"a writer died: {error}") from error
        if not isinstance(saved, Saved):
            self._abandon(now.step)
            reason = saved.reason if isinstance(saved, NotSaved) else repr(saved)
            raise CheckpointFailedError(now.step, reason)
        now.files |= {file.name: file for file in saved.files}
        now.hashes |= saved.hashes
        return None if self.futures else self._commit(now)

    def _abandon(self, step: int) -> None:
        self.futures = {}
        self._open = None
        self._store.abandon(step)

    def _commit(self, now: _Open) -> Written:
        self._open = None
        files = tuple(now.files[name] for name in self._names)
        state_hash = combine({name: int(value, 16) for name, value in now.hashes.items()})
        found = self._store.commit(self._describe(now.step, files, state_hash, now.ledger))
        self.saved = Written(found, time.perf_counter() - now.began)
        return self.saved


def utc_now() -> str:
    """This moment, ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
