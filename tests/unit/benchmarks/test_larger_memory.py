"""Jobs of four caps finish under a hard limit of one, to the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.memory.larger import SMALL, Job, apart

# Each training is a process of its own, which has to import torch.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("job", SMALL, ids=lambda job: job.name)
def test_four_caps_fit_into_one(job: Job, tmp_path: Path) -> None:
    free, capped = apart(job, None, capped=False), apart(job, tmp_path, capped=True)
    assert not isinstance(free, str), free
    assert not isinstance(capped, str), capped
    assert free.peak_bytes >= 4 * job.cap
    if job.name == "states":
        assert free.fixed_bytes >= 1.2 * job.cap
    assert capped.peak_bytes <= job.cap
    assert capped.disk_bytes > 0
    assert capped.digest == free.digest
    assert list(tmp_path.iterdir()) == []


def test_without_a_session_the_limit_is_one() -> None:
    refused = apart(SMALL[0], None, capped=True)
    assert isinstance(refused, str)
    assert "memory" in refused.lower()
