"""The ledger: each step once."""

from __future__ import annotations

import pytest

from ithaca.runtime.checkpoint.record import Record, RecordError
from ithaca.runtime.ledger import Ledger


def test_a_step_is_committed_once_and_in_order() -> None:
    ledger = Ledger().commit(0, 6).commit(1, 6, skipped=True).commit(2, 6)
    assert ledger == Ledger(3, (1,), 18)
    for step in (2, 4, 0, -1):
        with pytest.raises(ValueError, match=f"step {step} cannot be committed: step 3 is next"):
            ledger.commit(step, 6)
    assert Ledger.from_record(Record(ledger.to_json())) == ledger


def test_a_ledger_that_contradicts_itself_is_refused() -> None:
    for change in ({"skipped": [3]}, {"skipped": [1, 1]}, {"committed": -1}, {"more": 0}):
        with pytest.raises(RecordError):
            Ledger.from_record(Record({**Ledger(3, (1,), 18).to_json(), **change}))
