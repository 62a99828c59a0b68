"""What a byte that moves costs the training thread, as seen: copies that plans took for hidden.

A plan knows links, windows and operators, and not how copies and operators slow each other down.
So the time that steps waited for copies is compared with what their plans foresaw.
"""

from __future__ import annotations

from collections.abc import Mapping

_MOVED = (("host_out_bytes", "host_in_bytes"), ("disk_written", "disk_read"))


class Waits:
    """Sums over steps that ran as planned."""

    def __init__(self) -> None:
        self._before: tuple[int, int] | None = None
        self._waited_s = 0.0
        self._moved = 0

    def take(self, counters: Mapping[str, int], foreseen_s: float | None) -> None:
        """Take a step in.

        Args:
            counters: of the vault, behind the step.
            foreseen_s: what its plan said that it would wait; None if it had none, or was looked
                at in detail: then the step only ends, and counts for nothing.
        """
        before, self._before = self._before, (counters["wait_ns"], _moved(counters))
        if foreseen_s is None or before is None:
            return
        waited_ns, moved = before
        self._waited_s += (counters["wait_ns"] - waited_ns) / 1e9 - foreseen_s
        self._moved += _moved(counters) - moved

    @property
    def s_per_byte(self) -> float:
        """Seconds for a byte that went either way; 0 as long as nothing has moved."""
        return max(0.0, self._waited_s) / self._moved if self._moved else 0.0


def _moved(counters: Mapping[str, int]) -> int:
    """Bytes between the device and the first tier: what goes further went there first."""
    first = _MOVED[0] if counters.get("host_limit") else _MOVED[1]
    return sum(counters.get(name, 0) for name in first)
