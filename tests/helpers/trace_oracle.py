"""Says what a viewer of Chrome trace events would not understand in a trace."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

Record = dict[str, Any]

REQUIRED = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid"},
    "M": {"name", "pid", "tid", "args"},
    "C": {"name", "ts", "pid", "args"},
    "i": {"name", "ts", "pid", "tid", "s"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
}
_ROUNDING_US = 2e-3


def faults(trace: Record) -> list[str]:
    """Every fault found; empty for a trace that opens as it was meant."""
    text = json.dumps(trace, allow_nan=True)
    found = ["not JSON"] if "NaN" in text or "Infinity" in text else []
    records: list[Record] = trace["traceEvents"]
    for record in records:
        missing = REQUIRED.get(record.get("ph", ""), {"a known ph"}) - set(record)
        found += [f"{record.get('ph')} lacks {name}" for name in sorted(missing)]
        found += [f"{record['ph']} before the start"] * (record.get("ts", 0) < 0)
        found += ["a duration below zero"] * (record.get("dur", 0) < 0)
    if found:
        return found
    return [*_overlaps(records), *_arrows(records), *_names(records)]


def _overlaps(records: list[Record]) -> list[str]:
    """Slices of one thread that neither follow each other nor lie within each other."""
    tracks = defaultdict(list)
    for record in records:
        if record["ph"] == "X":
            tracks[record["pid"], record["tid"]].append(record)
    found = []
    for slices in tracks.values():
        slices.sort(key=lambda r: (r["ts"], -r["dur"]))
        stack: list[float] = []
        for record in slices:
            end = record["ts"] + record["dur"]
            while stack and stack[-1] <= record["ts"] + _ROUNDING_US:
                stack.pop()
            if stack and end > stack[-1] + _ROUNDING_US:
                found.append(f"{record['name']} overlaps the slice before it")
            stack.append(end)
    return found


def _arrows(records: list[Record]) -> list[str]:
    """Arrows without both ends, that go back in time, or that start or end in no slice."""
    slices = defaultdict(list)
    ends: dict[int, dict[str, Record]] = defaultdict(dict)
    for record in records:
        if record["ph"] == "X":
            slices[record["pid"], record["tid"]].append(record)
        elif record["ph"] in "sf":
            if record["ph"] in ends[record["id"]]:
                return [f"arrow {record['id']} has an end twice"]
            ends[record["id"]][record["ph"]] = record
    found = []
    for number, pair in ends.items():
        if set(pair) != {"s", "f"}:
            found.append(f"arrow {number} has one end")
        elif pair["f"]["ts"] < pair["s"]["ts"]:
            found.append(f"arrow {number} goes back in time")
        for end in pair.values():
            near = slices[end["pid"], end["tid"]]
            if not any(s["ts"] <= end["ts"] <= s["ts"] + s["dur"] for s in near):
                found.append(f"arrow {number} hangs in the air")
    return found


def _names(records: list[Record]) -> list[str]:
    named = {(r["name"], r["pid"], r["tid"]) for r in records if r["ph"] == "M"}
    used = {(r["pid"], r["tid"]) for r in records if r["ph"] == "X"}
    found = [
        f"process {pid} has no name"
        for pid in sorted({pid for pid, _ in used})
        if ("process_name", pid, 0) not in named
    ]
    threads = sorted(used - {(pid, tid) for name, pid, tid in named if name == "thread_name"})
    return found + [f"thread {tid} of process {pid} has no name" for pid, tid in threads]
