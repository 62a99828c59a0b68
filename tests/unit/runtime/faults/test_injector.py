"""The injector: strikes once, at its point, after it has told; only its own process."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ithaca.recovery.fault import CONTROLLER, Fault, FaultError
from ithaca.runtime.checkpoint.writer import write_layer
from ithaca.runtime.events import FaultInjected
from ithaca.runtime.faults import process
from ithaca.runtime.faults.disk import FaultyDisk
from ithaca.runtime.faults.injector import InjectedError, Injector, Reach


class Bench:
    """An injector of worker 1 whose deeds are noted instead of done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, who: int | str = 1) -> None:
        self.told: list[FaultInjected] = []
        self.done: list[str] = []
        self.parameters = [torch.arange(6.0).reshape(2, 3)]
        self.gradients = [torch.ones(4)]
        self.notices: list[float] = []
        reach = Reach(lambda: self.parameters, lambda: self.gradients, self.notices.append)
        self.injector = Injector(who, self.told.append, reach)
        for name in ("crash", "stop", "loop", "keep_lock", "slow", "kill_later"):
            monkeypatch.setattr(process, name, self._note(name))

    def _note(self, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        # What has been told by then is what the log will know.
        return lambda *_: self.done.append(f"{name} after {len(self.told)}")

    def order(self, *texts: str) -> None:
        """Give it faults."""
        for text in texts:
            self.injector.order(text)

    def pass_points(self, steps: int = 4) -> None:
        """Every point of some steps of a worker."""
        for step in range(steps):
            for what in ("F 0:3 m0", "F 0:3 m1", "B 0:3 m0", "B 0:3 m1", "REDUCE 0:3", "COMMIT"):
                for moment in ("before", "after"):
                    self.injector.at(step, moment, what)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_it_strikes_once_at_its_point_and_tells_before(bench: Bench) -> None:
    bench.order("crash w1 at step 3 before B m1")
    bench.pass_points()
    assert bench.done == ["crash after 1"]
    (told,) = bench.told
    assert (told.worker, told.step, told.action) == (1, 3, "B 0:3 m1")
    assert told.fault == "crash w1 at step 3 before B m1"


def test_the_same_order_twice_is_one_fault_until_it_has_struck(bench: Bench) -> None:
    bench.order("loop w1 at step 2", "loop w1 at step 2")
    bench.pass_points()
    bench.pass_points()
    assert bench.done == ["loop after 1"]
    bench.order("loop w1 at step 2")
    bench.pass_points()
    assert len(bench.done) == 2


def test_what_the_job_lists_strikes_once_for_all(bench: Bench) -> None:
    for _ in range(2):
        bench.injector.arm([Fault.parse("loop w1 at step 2")])
        bench.pass_points()
    assert bench.done == ["loop after 1"]


def test_faults_of_others_are_left_alone(bench: Bench) -> None:
    bench.injector.arm(
        [Fault.parse("crash w2 at step 1"), Fault.parse("crash controller at step 1")]
    )
    bench.pass_points()
    assert (bench.done, bench.told) == ([], [])


def test_the_nth_of_several_points(bench: Bench) -> None:
    bench.order("loop w1 at step 2 after F nth 2")
    bench.pass_points()
    assert [told.action for told in bench.told] == ["F 0:3 m1"]


def test_every_kind_does_its_own(bench: Bench) -> None:
    bench.order(
        "stop w1 at step 1 for 1s", "gil w1 at step 2 for 1s", "slow w1 at step 3 for 1s",
        "notice w1 at step 4 for 9s",
    )  # fmt: skip
    bench.pass_points()
    done = [each.split()[0] for each in bench.done]
    assert done == ["stop", "keep_lock", "slow", "kill_later"]
    assert bench.notices == [9.0]


def test_an_exception_is_raised_where_it_was_asked_for(bench: Bench) -> None:
    bench.order("raise w1 at step 2 before REDUCE")
    with pytest.raises(InjectedError, match="a drill asked for it: raise w1 at step 2"):
        bench.pass_points()
    assert bench.told[0].action == "REDUCE 0:3"


def bits_between(one: Tensor, other: Tensor) -> int:
    """How many bits differ."""
    words = zip(one.contiguous().view(torch.uint8).flatten().tolist(),
                other.contiguous().view(torch.uint8).flatten().tolist(), strict=True)  # fmt: skip
    return sum((a ^ b).bit_count() for a, b in words)


@pytest.mark.parametrize("what", ["parameter", "gradient"])
def test_one_bit_is_turned_and_always_the_same(
    bench: Bench, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for each in (bench, Bench(monkeypatch)):
        tensor = (each.parameters if what == "parameter" else each.gradients)[0]
        before = tensor.clone()
        each.order(f"flip-{what} w1 at step 2 before REDUCE")
        each.pass_points()
        assert bits_between(before, tensor) == 1
        assert torch.isfinite(tensor).all()
        found.append(tensor.clone())
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8])
def test_one_message_is_damaged_and_the_tensor_is_not(bench: Bench, dtype: torch.dtype) -> None:
    content = torch.ones(3, 5).to(dtype)
    assert bench.injector.sent(content) is content
    bench.order("flip-wire w1 at step 1")
    bench.pass_points()
    sent = bench.injector.sent(content)
    assert bits_between(content, sent) == 1
    assert torch.equal(content, torch.ones(3, 5).to(dtype))
    assert bench.injector.sent(content) is content


def test_a_disk_fails_as_often_as_it_was_told(bench: Bench, tmp_path: Path) -> None:
    bench.order("disk-full w1 at step 1 times 2", "disk-error w1 at step 2")
    bench.pass_points()
    state = {"weight": torch.ones(3)}
    for number in (errno.ENOSPC, errno.ENOSPC, errno.EIO):
        with pytest.raises(OSError) as caught:
            write_layer(tmp_path, "embed", state, 1, bench.injector.disk)
        assert caught.value.errno == number
    write_layer(tmp_path, "embed", state, 1, bench.injector.disk)
    assert [path.name for path in tmp_path.iterdir()] == ["embed.safetensors"]


def test_a_slow_disk_is_only_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("ithaca.runtime.faults.disk.time.sleep", waited.append)
    disk = FaultyDisk()
    disk.spoil(Fault.parse("disk-slow w1 at step 1 for 7s"))
    disk.write(tmp_path / "file", [b"content"])
    disk.write(tmp_path / "other", [b"content"])
    assert waited == [7.0]
    assert (tmp_path / "file").read_bytes() == b"content"


def test_the_daemon_of_a_worker_that_ray_did_not_start(bench: Bench) -> None:
    bench.order("kill-raylet w1 at step 1")
    with pytest.raises(FaultError, match="not started by Ray"):
        bench.pass_points()


def test_daemons_get_their_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(process, "raylet_of", lambda _: 77)
    monkeypatch.setattr(process, "control_store_of", lambda _: 78)
    bench = Bench(monkeypatch)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    bench.order("kill-raylet w1 at step 1", "kill-head w1 at step 1", "stop-raylet w1 at step 1")
    bench.pass_points()
    assert killed == [(77, signal.SIGKILL), (78, signal.SIGKILL)]
    assert bench.done == ["stop after 3"]


def test_the_controller_has_points_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, CONTROLLER)
    bench.order("crash controller at step 2 before decide", "crash w1 at step 1")
    bench.injector.at(1, "before", "fence")
    assert bench.done == []
    bench.injector.at(1, "before", "decide")
    assert bench.done == ["crash after 1"]
    assert bench.told[0].worker is None


def test_what_is_no_fault_is_refused(bench: Bench) -> None:
    with pytest.raises(FaultError, match="is written like"):
        bench.order("crash everything")
