"""Which sample was committed in which step: exactly once, and provable from the ids alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ithaca.runtime.checkpoint.record import Record, RecordError, check_number


@dataclass(frozen=True, slots=True)
class Ledger:
    """Steps 0 to ``committed - 1`` are in the state, each once.

    Which samples they used follows from ``workload.batch`` and needs no storing.

    Attributes:
        committed: number of committed steps; the next one to commit has this number.
        skipped: steps whose samples were used but whose update a NaN policy left out; ascending.
        samples: samples used in all committed steps.
    """

    committed: int = 0
    skipped: tuple[int, ...] = ()
    samples: int = 0

    def commit(self, step: int, samples: int, *, skipped: bool = False) -> Ledger:
        """The ledger after ``step``, which used ``samples`` samples, was committed.

        Raises:
            ValueError: ``step`` is not the next one; it would be lost or counted twice.
        """
        if step != self.committed:
            raise ValueError(f"step {step} cannot be committed: step {self.committed} is next")
        more = (step,) if skipped else ()
        return Ledger(step + 1, self.skipped + more, self.samples + samples)

    def to_json(self) -> dict[str, Any]:
        """The members that :meth:`from_record` reads."""
        return {
            "committed": self.committed,
            "skipped": list(self.skipped),
            "samples": self.samples,
        }

    @classmethod
    def from_record(cls, record: Record) -> Ledger:
        """The ledger that :meth:`to_json` wrote; ``RecordError`` names what is wrong."""
        committed = record.number("committed")
        skipped = tuple(
            check_number(step, f"ledger.skipped[{index}]", committed - 1)
            for index, step in enumerate(record.items("skipped"))
        )
        if any(step >= after for step, after in pairwise(skipped)):
            raise RecordError("ledger.skipped: the steps are not ascending")
        ledger = cls(committed, skipped, record.number("samples"))
        record.close()
        return ledger
