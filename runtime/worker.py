"""A worker: the process that holds layers and runs their Programs.

The class knows nothing of Ray; :mod:`ithaca.runtime.crew` makes an actor of it. One thread trains,
another beats, a third writes checkpoints. Workers stay warm: a new assignment replaces the layers
and connections of the one before, not the process.
"""

from __future__ import annotations

import os
import platform
import resource
import socket
import threading
import time
import traceback
import uuid
from datetime import timedelta
from pathlib import Path

import torch
from torch._C._distributed_c10d import TCPStore

from ithaca.planner.plan import Plan
from ithaca.planner.program import Program
from ithaca.recovery.tally import Tally
from ithaca.runtime.checkpoint.reader import read_layer
from ithaca.runtime.checkpoint.state import Staged, stage
from ithaca.runtime.checkpoint.writer import write_layer
from ithaca.runtime.cluster import interface_address
from ithaca.runtime.config.job import Job, NanPolicy, Numerics
from ithaca.runtime.config.plugin import find_workload
from ithaca.runtime.control.client import ControlClient
from ithaca.runtime.control.heartbeat import Heart, Position
from ithaca.runtime.control.surface import Command
from ithaca.runtime.engine.adamw import OptimizerSettings
from ithaca.runtime.engine.drive import ChannelFailed, Row, drive
from ithaca.runtime.engine.gloo import GlooChannel
from ithaca.runtime.engine.hashing import combine, hash_tensor
from ithaca.runtime.engine.nccl import NcclChannel
from ithaca.runtime.engine.steps import Point
from ithaca.runtime.engine.trainer import EngineSettings, Trainer
from ithaca.runtime.events import Event, LayersHashed, LayersTimed, StepDone, Timeline, Validated
from ithaca.runtime.orders import Assignment, Facts, NotSaved, Outcome, Saved, Trouble
from ithaca.runtime.timeouts import Timeouts
from ithaca.runtime.workload import default_dtype

_WARM_UP, _TIMED = 3, 8
"""Steps before layers are timed, and steps that are."""


def engine_settings(job: Job) -> EngineSettings:
    """The part of ``job`` that the engine reads."""
    o = job.optimizer
    return EngineSettings(
        seed=job.seed,
        exact=job.numerics is Numerics.EXACT,
        dtype=default_dtype(job.precision.value),
        skip_not_finite=o.on_nan is NanPolicy.SKIP,
        optimizer=OptimizerSettings(
            o.lr, o.betas, o.eps, o.weight_decay, o.clip, o.schedule, o.warmup, o.final, job.steps
        ),
    )


def writer_of(plan: Plan, layer: int) -> int:
    """Who writes ``layer`` to checkpoints: one of its holders, in turn."""
    holders = plan.holders(layer)
    return holders[layer % len(holders)]


class Worker:
    """One worker; its methods are called by the controller."""

    def __init__(self, threads: int, device: str, interface: str | None) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self._device = torch.device(device)
        self._address = interface_address(interface) if interface else None
        self._store: TCPStore | None = None
        self._channel: GlooChannel | NcclChannel | None = None
        self._heart: Heart | None = None
        self._trainer: Trainer | None = None
        self._assignment: Assignment | None = None
        self._staged: dict[str, Staged] = {}
        self._staged_step = -1
        self._staging = threading.Condition()
        self._position = Position(time.monotonic)

    def facts(self, address: str) -> Facts:
        """Who and where this worker is; ``address`` is the node's, if no interface was named."""
        self._address = self._address or address
        if self._device.type == "cuda":
            device = torch.cuda.get_device_name(self._device)
        else:
            device = f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return Facts(
            socket.gethostname(),
            self._address,
            os.getpid(),
            device,
            torch.__version__,
            torch.get_num_threads(),
        )

    def assign(self, assignment: Assignment) -> None:
        """Build the layers of a new assignment, from the checkpoint if it names one."""
        self.release()
        torch.set_num_threads(self._threads)
        job, plan = assignment.job, Plan.parse(assignment.plan)
        if not Path(assignment.folder).is_dir():
            raise ValueError(
                f"the run folder {assignment.folder} is not there on {socket.gethostname()}: "
                "give a folder=... that every node of the cluster reaches"
            )
        workload = find_workload(job.workload.use)(
            assignment.workload_config, seed=job.seed, micro_batches=job.layout.micro_batches
        )
        trainer = Trainer(
            workload, engine_settings(job), plan.held(assignment.worker), self._device
        )
        if assignment.resume is not None:
            found = assignment.resume
            for layer in trainer.holdings.layers.values():
                layer.load(read_layer(found.folder, found.manifest.layer(layer.name)))
            trainer.step = found.step
        self._assignment, self._trainer = assignment, trainer

    def open_store(self, timeout_s: float) -> int:
        """Host the generation's store; its port."""
        self._store = TCPStore(
            self._address or "127.0.0.1",
            0,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=timeout_s),
        )
        return int(self._store.port)

    def connect(self, host: str, port: int) -> None:
        """Meet the other workers of the generation and begin to beat."""
        assignment, trainer = self._current()
        plan, timeouts = Plan.parse(assignment.plan), Timeouts.from_detect(assignment.job.detect)
        join = timedelta(seconds=timeouts.join_s)
        store = TCPStore(host, port, is_master=False, timeout=join)
        here = (
            store,
            plan.generation,
            assignment.worker,
            plan.workers,
            timeouts.backstop_s,
            self._address or "127.0.0.1",
        )
        if self._device.type == "cuda":
            self._channel = NcclChannel(*here, self._device)
        else:
            self._channel = GlooChannel(*here)
        trainer.connect(self._channel)
        self._position.enter(plan.generation, trainer.step, "ready")
        self._heart = Heart(
            dial=lambda: ControlClient(
                assignment.control_address, assignment.control_token, timeouts.call_s
            ),
            worker=assignment.worker,
            incarnation=uuid.uuid4().hex,
            position=self._position,
            interval_s=timeouts.beat_s,
            on_command=self._obey,
            on_fenced=lambda _: None,
        )
        self._heart.start()

    def train(self) -> Outcome | Trouble:
        """Run steps until the job ends or a drain was agreed on, or say what went wrong."""
        assignment, trainer = self._current()
        torch.set_num_threads(self._threads)
        try:
            return _Run(self, assignment, trainer).all_steps()
        except Exception as error:
            return self._trouble(error)
        finally:
            if self._heart is not None:
                self._heart.flush(Timeouts.from_detect(assignment.job.detect).grace_s)

    def save(self, step: int, folder: str) -> Saved | NotSaved:
        """Write this worker's part of the checkpoint of ``step``."""
        assignment, _ = self._current()
        bound_s = Timeouts.from_detect(assignment.job.detect).drain_s
        with self._staging:
            self._staging.wait_for(lambda: self._staged_step >= step, bound_s)
            if self._staged_step != step:
                return NotSaved(f"worker {assignment.worker} has no copy of that step any more")
            staged, self._staged, self._staged_step = self._staged, {}, -1
        try:
            files = [write_layer(Path(folder), n, s.tensors, step) for n, s in staged.items()]
        except OSError as error:
            return NotSaved(f"{folder}: {error.strerror or error}")
        hashes = {
            name: combine({key: hash_tensor(tensor) for key, tensor in s.tensors.items()})
            for name, s in staged.items()
        }
        return Saved(tuple(files), hashes)

    def release(self) -> None:
        """Give up layers, connections and the heart; the process stays warm."""
        if self._heart is not None:
            self._heart.stop(5.0)
        if self._channel is not None:
            self._channel.close()
        self._heart = self._channel = self._trainer = self._assignment = self._store = None
        self._staged, self._staged_step = {}, -1

    def _current(self) -> tuple[Assignment, Trainer]:
        if self._assignment is None or self._trainer is None:
            raise RuntimeError("this worker has no assignment")
        return self._assignment, self._trainer

    def _obey(self, command: Command) -> None:
        if self._trainer is not None and command is not Command.NONE:
            self._trainer.drain()

    def _trouble(self, error: Exception) -> Trouble:
        assignment, _ = self._current()
        _, step, action, _ = self._position.read()
        return Trouble(
            worker=assignment.worker,
            node=socket.gethostname(),
            step=step,
            action=action,
            cause=f"{type(error).__name__}: {error}",
            traceback="".join(traceback.format_exception(error)),
            secondary=isinstance(error, ChannelFailed),
        )

    def report(self, event: Event) -> None:
        """Send an event to the controller."""
        assert self._heart is not None
        self._heart.report(event.to_json())

    def enter(self, step: int, action: Point | str) -> None:
        """Say where the engine is."""
        generation = self._position.read()[0]
        self._position.enter(generation, step, action)

    def keep_for_checkpoint(self, step: int) -> None:
        """Copy the layers that this worker writes; an older copy not yet asked for is dropped."""
        assignment, trainer = self._current()
        plan = Plan.parse(assignment.plan)
        copies = {
            layer.name: stage(layer.state())
            for layer in trainer.holdings.layers.values()
            if writer_of(plan, layer.index) == assignment.worker
        }
        with self._staging:
            self._staged, self._staged_step = copies, step
            self._staging.notify_all()


class _Run:
    """The loop over steps, and what is reported of each."""

    def __init__(self, worker: Worker, assignment: Assignment, trainer: Trainer) -> None:
        self._worker = worker
        self._job = assignment.job
        self._trainer = trainer
        self._id = assignment.worker
        self._speaks = assignment.worker == min(Plan.parse(assignment.plan).workers)
        self._generation = Plan.parse(assignment.plan).generation
        self._program = Program.parse(assignment.program)
        self._validation = Program.parse(assignment.validation) if assignment.validation else None
        self._skipped = 0
        self._done = 0

    def all_steps(self) -> Outcome:
        """Until the last step, or a drain."""
        trainer, every = self._trainer, self._job.validation.every
        drained = False
        if trainer.step == 0 and every:
            self._validate()
        while trainer.step < self._job.steps and not drained:
            drained = self._step()
            last = trainer.step == self._job.steps
            if every and (trainer.step % every == 0 or last):
                self._validate()
        return Outcome(trainer.step, drained, self._skipped)

    def _step(self) -> bool:
        trainer, rows = self._trainer, list[Row]()
        began, wall = time.perf_counter(), time.time()
        tally = drive(trainer.train_step(self._program), self._enter, time.perf_counter, rows)
        seconds = time.perf_counter() - began
        self._skipped += not tally.finite
        self._done += 1
        if self._done == _WARM_UP:
            trainer.forget_times()
        # Copied before anybody hears of the step: whoever hears of it may ask for the copy.
        saves, last = self._job.checkpoint.every, trainer.step == self._job.steps
        if last or tally.drain or (saves and trainer.step % saves == 0):
            self._worker.keep_for_checkpoint(trainer.step)
        if self._speaks:
            self._worker.report(self._step_done(tally, seconds))
        if (trainer.step - 1) % self._job.report.timeline_every == 0:
            self._worker.report(self._timeline(wall, rows))
        if self._done == _WARM_UP + _TIMED:
            self._worker.report(self._layers_timed())
        hashes = self._job.report.hash_every
        if hashes and trainer.step % hashes == 0:
            self._worker.report(self._layers_hashed())
        return tally.drain

    def _timeline(self, began_s: float, rows: list[Row]) -> Timeline:
        return Timeline(
            time_s=time.time(),
            step=self._trainer.step,
            worker=self._id,
            began_s=began_s,
            rows=[(what, round(start, 6), round(end, 6)) for what, start, end in rows],
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )

    def _layers_timed(self) -> LayersTimed:
        return LayersTimed(
            time_s=time.time(),
            step=self._trainer.step,
            worker=self._id,
            times=self._trainer.times(),
        )

    def _layers_hashed(self) -> LayersHashed:
        return LayersHashed(
            time_s=time.time(),
            step=self._trainer.step,
            worker=self._id,
            hashes=dict(self._trainer.hashes()),
        )

    def _step_done(self, tally: Tally, seconds: float) -> StepDone:
        return StepDone(
            time_s=time.time(),
            step=self._trainer.step,
            generation=self._generation,
            loss=tally.loss,
            auxiliary=tally.auxiliary,
            norm=tally.norm,
            lr=self._trainer.settings.optimizer.rate(self._trainer.step - 1),
            count=tally.count,
            samples=tally.samples,
            seconds=seconds,
            skipped=not tally.finite,
        )

    def _validate(self) -> None:
        if self._validation is None:
            return
        began = time.perf_counter()
        tally = drive(self._trainer.validate(self._validation), self._enter, time.perf_counter, [])
        if self._speaks:
            self._worker.report(
                Validated(
                    time_s=time.time(),
                    step=self._trainer.step,
                    loss=tally.loss,
                    count=tally.count,
                    seconds=time.perf_counter() - began,
                )
            )

    def _enter(self, action: Point) -> None:
        self._worker.enter(self._trainer.step, action)
