"""The drills that come with the product: all can be loaded, and every class of failure has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.recovery.failure import FailureClass
from ithaca.recovery.fault import CONTROLLER, FaultKind
from ithaca.runtime.drill.load import load_drill

FOLDER = Path(__file__).parents[4] / "configs" / "drills"
DRILLS = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "job.yaml")
OF_CLASS = {
    FailureClass.CRASH: FaultKind.CRASH,
    FailureClass.HANG: FaultKind.STOP,
    FailureClass.SLOW: FaultKind.SLOW,
    FailureClass.PARTITION: FaultKind.PARTITION,
    FailureClass.CORRUPTION: FaultKind.FLIP_WIRE,
    FailureClass.NODE: FaultKind.KILL_RAYLET,
    FailureClass.HEAD: FaultKind.KILL_HEAD,
    FailureClass.DISK: FaultKind.DISK_FULL,
    FailureClass.ZOMBIE: FaultKind.STOP,
    FailureClass.NOTICE: FaultKind.NOTICE,
}


@pytest.mark.parametrize("path", DRILLS, ids=lambda path: path.stem)
def test_it_loads_under_its_own_name(path: Path) -> None:
    loaded = load_drill(path)
    assert loaded.drill.name == path.stem
    assert loaded.faults


def test_every_class_of_failure_has_a_drill() -> None:
    faults = [fault for path in DRILLS for fault in load_drill(path).faults]
    kinds = {fault.kind for fault in faults}
    assert set(OF_CLASS.values()) <= kinds
    assert any(fault.target == CONTROLLER for fault in faults)
    assert set(FailureClass) - set(OF_CLASS) == {FailureClass.CONTROLLER}
    assert any(load_drill(path).drill.soak is not None for path in DRILLS)
