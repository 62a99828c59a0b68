"""An audit of the samples that steps used, from their ids alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ithaca.runtime.workload import BatchId, Workload

_EXAMPLES = 10


@dataclass(slots=True)
class LedgerReport:
    """What an audit of some steps found.

    Attributes:
        samples: samples used, repeats included.
        epochs: epochs that were finished.
        duplicates: uses of a sample that its epoch had used before.
        missing: samples that a finished epoch did not use.
        foreign: uses of an id that no sample has.
        examples: the first few of these, in words.
    """

    samples: int = 0
    epochs: int = 0
    duplicates: int = 0
    missing: int = 0
    foreign: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether every sample was used exactly once per epoch."""
        return not (self.duplicates or self.missing or self.foreign)

    def _note(self, what: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(what)

    def _use(self, used: dict[int, str], sample: int, where: str, epoch: int | None) -> None:
        self.samples += 1
        if sample < 0 or (epoch is not None and sample >= epoch):
            self.foreign += 1
            self._note(f"sample {sample} in {where} does not exist")
        elif sample in used:
            self.duplicates += 1
            self._note(f"sample {sample} in {where} was used in {used[sample]}")
        else:
            used[sample] = where
        if epoch is not None and self.samples % epoch == 0:
            self._end(used, epoch)
            self.epochs += 1

    def _end(self, used: dict[int, str], size: int) -> None:
        if len(used) < size:
            self.missing += size - len(used)
            first = next(sample for sample in range(size) if sample not in used)
            self._note(f"sample {first} was not used in epoch {self.epochs}")
        used.clear()


def audit(
    workload: Workload, steps: Iterable[int], micro_batches: int, epoch: int | None = None
) -> LedgerReport:
    """Counts the samples of ``steps`` as their committed batches used them.

    Samples are taken in order of step, micro-batch and place. Each ``epoch`` of them in a row must
    be the ids 0 to epoch - 1 in some order; so ``steps`` must begin at an epoch's start, such as
    with step 0. The last epoch may be unfinished. Without ``epoch``, ids count over the whole run,
    as those of ``workloads.order`` do: 0, 1, 2, ... without a gap, each once in all.

    Args:
        workload: asked for the batches; it must give sample ids.
        steps: the committed ones, such as ``range(ledger.committed)``.
        micro_batches: logical micro-batches of a step.
        epoch: samples of an epoch, at least 1; None if ids are never used again.

    Raises:
        ValueError: the workload gives no sample ids, or ``epoch`` is no size.
    """
    if epoch is not None and epoch < 1:
        raise ValueError(f"an epoch has at least 1 sample, not {epoch}")
    report = LedgerReport()
    used: dict[int, str] = {}
    for step in steps:
        for index in range(micro_batches):
            samples = workload.batch(BatchId(step, index)).samples
            where = f"step {step}, micro-batch {index}"
            if not samples:
                raise ValueError(f"the workload gives no sample ids in {where}: nothing to audit")
            for sample in samples:
                report._use(used, sample, where, epoch)
    if epoch is None:
        report._end(used, max(used, default=-1) + 1)
    return report
