"""What a plan decides does not depend on how fast the machine is just then."""

from __future__ import annotations

import pytest

from tests.unit.swap.even_times import even_times


@pytest.fixture(autouse=True)
def _same_times(monkeypatch: pytest.MonkeyPatch) -> None:
    even_times(monkeypatch)
