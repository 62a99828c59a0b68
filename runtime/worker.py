"""A worker: the process that holds layers and runs their Programs.

The class knows nothing of Ray; :mod:`ithaca.runtime.agency` makes an actor of it. One thread
trains, another beats, a third takes orders, others answer the controller's calls. Workers stay
warm: a new assignment replaces the layers and connections of the one before, not the process.
"""

from __future__ import annotations

import faulthandler
import gc
import hashlib
import os
import platform
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path

import torch
from torch._C._distributed_c10d import PrefixStore, TCPStore

from ithaca.recovery.blame import DONE
from ithaca.recovery.fault import Fault, FaultError
from ithaca.recovery.standing import Standing
from ithaca.runtime.checkpoint.reader import read_layer
from ithaca.runtime.checkpoint.writer import write_layer
from ithaca.runtime.cluster import interface_address
from ithaca.runtime.config.job import Job, NanPolicy, Numerics
from ithaca.runtime.config.plugin import find_workload
from ithaca.runtime.control.attendance import Attendance
from ithaca.runtime.control.client import ControlClient
from ithaca.runtime.control.heartbeat import Heart, Position
from ithaca.runtime.control.roll import Order, OrderKind
from ithaca.runtime.control.surface import Command
from ithaca.runtime.engine.channel import AbsentWorkers, CorruptState, channel_errors
from ithaca.runtime.engine.drive import ChannelFailed
from ithaca.runtime.engine.gather import gather
from ithaca.runtime.engine.gloo import GlooChannel
from ithaca.runtime.engine.hashing import hash_tensor
from ithaca.runtime.engine.nccl import NcclChannel
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.engine.trainer import EngineSettings, Trainer
from ithaca.runtime.engine.wake import Graveyard
from ithaca.runtime.estimate import static_profile
from ithaca.runtime.events import FaultInjected
from ithaca.runtime.faults.injector import Injector, Reach
from ithaca.runtime.lease import Lease, Use, Vacant
from ithaca.runtime.memory import WorkerMemory
from ithaca.runtime.orders import Assignment, Deployment, Facts, NotSaved, Outcome, Saved, Trouble
from ithaca.runtime.reports import Reports
from ithaca.runtime.timeouts import Timeouts
from ithaca.runtime.training import Connection, Training
from ithaca.runtime.workload import default_dtype
from ithaca.swap import allocator


def engine_settings(job: Job) -> EngineSettings:
    """The part of ``job`` that the engine reads."""
    return EngineSettings(
        seed=job.seed,
        exact=job.numerics is Numerics.EXACT,
        dtype=default_dtype(job.precision.value),
        skip_not_finite=job.optimizer.on_nan is NanPolicy.SKIP,
        optimizer=OptimizerSettings.of(job),
        sealed=job.integrity.state,
        replay_every=job.integrity.replay_every,
    )


class Worker:
    """One worker; its methods are called by the controller."""

    def __init__(self, threads: int, device: str, interface: str | None) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self._device = torch.device(device)
        self._address = interface_address(interface) if interface else None
        self._store: TCPStore | None = None
        self._lease: Lease[_Part] = Lease("this worker has no assignment")

    def facts(self, address: str) -> Facts:
        """Who and where this worker is; ``address`` is the node's, if no interface was named."""
        self._address = self._address or address
        if self._store is None:
            self._store = TCPStore(
                self._address,
                0,
                is_master=True,
                wait_for_workers=False,
                timeout=timedelta(seconds=Timeouts.from_detect(2.0).join_s),
            )
        if self._device.type == "cuda":
            device = torch.cuda.get_device_name(self._device)
        else:
            device = f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return Facts(
            node=socket.gethostname(),
            address=self._address,
            pid=os.getpid(),
            device=device,
            # As plain text: what torch calls its version is of a class of its own.
            torch=str(torch.__version__),
            threads=torch.get_num_threads(),
            port=int(self._store.port),
        )

    # -- a run

    def assign(self, assignment: Assignment) -> None:
        """Build the layers of a new assignment, from the checkpoint if it names one.

        Raises:
            ValueError: the folder is not there, the options or the checkpoint do not fit.
        """
        self.release()
        torch.set_num_threads(self._threads)
        if not Path(assignment.folder).is_dir():
            raise ValueError(
                f"the run folder {assignment.folder} is not there on {socket.gethostname()}: "
                "give a folder=... that every node of the cluster reaches"
            )
        self._lease.hold(_Part(assignment, self._device, self._address or "127.0.0.1"))

    def adopt(self, deployment: Deployment) -> bool:
        """Enter a generation, and return when its workers have met.

        False if a later one has been announced here already.

        Raises:
            ChannelFailed: somebody did not come.
            TimeoutError: this worker's engine does not come to a named point.
        """
        with self._lease.use() as use:
            return use.thing.adopt(deployment)

    def train(self) -> Outcome | Trouble:
        """Train until the job ends or a drain was agreed on, or say what went wrong.

        The first call trains; further ones wait for the same end, as a new controller does.
        """
        with self._lease.use() as use:
            with self._lease.changed:
                first, use.thing.started = not use.thing.started, True
                if not first:
                    return self._same_end(use)
            torch.set_num_threads(self._threads)
            end = use.thing.train()
            with self._lease.changed:
                use.thing.end = end
                self._lease.changed.notify_all()
            return end

    def _same_end(self, use: Use[_Part]) -> Outcome | Trouble:
        """That of a training that another call began; the lock is held."""
        lease = self._lease
        lease.changed.wait_for(lambda: use.thing.end is not None or not lease.holds(use.thing))
        if use.thing.end is None:
            raise RuntimeError("this worker was given another assignment")
        return use.thing.end

    def stand(self, generation: int) -> Standing:
        """Stand still for ``generation``; what this worker holds.

        A training that had come to its end in order may be taken up again by a call of
        :meth:`train`: somebody else was lost before the end was saved.

        Raises:
            TimeoutError: the engine does not come to a named point.
        """
        with self._lease.use() as use:
            standing = use.thing.stand(generation)
            with self._lease.changed:
                if use.thing.training.over and use.thing.started:
                    self._lease.changed.wait_for(
                        lambda: use.thing.end is not None, use.thing.flush_s
                    )
                    if isinstance(use.thing.end, Outcome):
                        use.thing.started, use.thing.end = False, None
            return standing

    def pause(self) -> int:
        """Let everybody stand still behind the step; its number, once this worker does."""
        with self._lease.use() as use:
            return use.thing.pause()

    def complain(self, reason: str) -> None:
        """Tell the controller why this worker cannot be counted on much longer."""
        with suppress(Vacant), self._lease.use() as use:
            use.thing.complain(reason)

    def dump(self) -> str:
        """The stacks of all threads that run Python, innermost call last."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        own = threading.get_ident()
        return "\n".join(
            f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in sys._current_frames().items()
            if ident != own
        )

    def save(self, step: int, folder: str) -> Saved | NotSaved:
        """Write this worker's part of the checkpoint of ``step``."""
        with self._lease.use() as use:
            return use.thing.save(step, folder)

    def release(self) -> None:
        """Give up layers, connections and the heart; the process stays warm."""
        self._lease.give_up(_Part.close)
        # Threads and callbacks hold each other in cycles, and with them layers, gradients and
        # copies: the next assignment must not find them in its memory.
        gc.collect()


class _Part:
    """What a worker has for one assignment.

    Attributes:
        training: its engine.
        started: somebody called for it to train.
        end: how the training ended.
    """

    def __init__(self, assignment: Assignment, device: torch.device, address: str) -> None:
        job = assignment.job
        self.started = False
        self.end: Outcome | Trouble | None = None
        self._assignment = assignment
        self._device = device
        self._address = address
        self._timeouts = Timeouts.from_detect(job.detect)
        self._run_key = hashlib.sha256(assignment.control_token.encode()).hexdigest()[:16]
        self._graveyard = Graveyard(self._timeouts.drain_s)
        workload = find_workload(job.workload.use)(
            assignment.workload_config.open(), seed=job.seed, micro_batches=job.layout.micro_batches
        )
        memory_wanted = job.memory.budget is not None
        if memory_wanted:
            allocator.install()  # before there is anything to count
        trainer = Trainer(workload, engine_settings(job), assignment.layers, device)
        if assignment.resume is not None:
            found = assignment.resume
            for layer in trainer.holdings.layers.values():
                layer.load(read_layer(found.folder, found.manifest.layer(layer.name)))
            trainer.step = found.step
        self._position = Position(time.monotonic, generation=-1)
        incarnation = uuid.uuid4().hex
        self._heart = Heart(
            dial=self._dial,
            worker=assignment.worker,
            incarnation=incarnation,
            position=self._position,
            interval_s=self._timeouts.beat_s,
            on_command=self._obey,
            on_fenced=self._fenced,
        )
        self._attendance = Attendance(
            dial=self._dial,
            worker=assignment.worker,
            incarnation=incarnation,
            generation=lambda: self._position.generation,
            retry_s=self._timeouts.beat_s,
            on_order=self._take_order,
            on_fenced=self._fenced,
        )
        self._processes: dict[int, str] = {}
        """In a drill, machine and process of each worker that this one has met."""
        self._injector = Injector(
            assignment.worker,
            self._tell_fault,
            Reach(trainer.parameters, trainer.gradients_so_far, self._notice, self._process_of),
        )
        trainer.holdings.computed = self._injector.computed
        if job.drills:
            self._injector.arm(map(Fault.parse, job.faults))
        self._memory: WorkerMemory | None = None
        if memory_wanted:
            profile = None if job.memory.limit_bytes else static_profile(workload, job)
            exact = job.numerics is Numerics.EXACT
            self._memory = WorkerMemory(job.memory, trainer, profile, exact)
        self._reports = Reports(
            job, assignment.worker, self._heart, self._position, self._injector, self._memory
        )
        self.training = Training(
            job=job,
            worker=assignment.worker,
            trainer=trainer,
            connect=self._connect,
            leave=lambda channel: channel.abandon(self._graveyard),
            restore=self._restore,
            reporter=self._reports,
            idle_s=self._timeouts.backstop_s,
            memory=self._memory,
        )
        self._heart.start()
        self._attendance.start()

    def _dial(self) -> ControlClient:
        a = self._assignment
        address = self._injector.route(a.control_address)
        return ControlClient(address, a.control_token, self._timeouts.call_s)

    def train(self) -> Outcome | Trouble:
        """Run the engine to its end."""
        try:
            outcome = self.training.run()
            self._position.enter(self._position.generation, outcome.step, DONE)
            return outcome
        except Exception as error:
            return self._trouble(error)
        finally:
            self._heart.flush(self._timeouts.grace_s)

    def adopt(self, deployment: Deployment) -> bool:
        """Enter a generation; returns when its workers have met."""
        self._point("before", "adopt")
        if not self.training.deploy(deployment):
            return False
        # Its engine may be between two calls of train; the next one will find the deployment.
        generation = deployment.orders.plan.generation
        self.training.wait_met(generation, self._timeouts.join_s)
        self._point("after", "adopt")
        return True

    def stand(self, generation: int) -> Standing:
        """Stop the engine; what it holds."""
        self._point("before", "stand")
        self.training.fence(generation)
        standing = self.training.stand(generation, self._timeouts.drain_s)
        self._point("after", "stand")
        return standing

    def pause(self) -> int:
        """Ask all for a pause, and wait for it."""
        self.training.trainer.pause()
        return self.training.wait_still(self._timeouts.backstop_s)

    def complain(self, reason: str) -> None:
        """Say so with every beat."""
        self._heart.complain(reason)

    @property
    def flush_s(self) -> float:
        """How long the end of the training may be on its way to the controller."""
        return 2 * self._timeouts.grace_s

    def save(self, step: int, folder: str) -> Saved | NotSaved:
        """Write what was copied of ``step``."""
        self._point("before", "save")
        staged = self._reports.staged(step, self._timeouts.drain_s)
        if staged is None:
            worker = self._assignment.worker
            return NotSaved(f"worker {worker} has no copy of that step any more")
        disk = self._injector.disk
        try:
            with self._uncounted():
                files = [
                    write_layer(Path(folder), name, copy.tensors, step, disk)
                    for name, copy in staged.items()
                ]
                hashes = {
                    name: combine({key: hash_tensor(part) for key, part in copy.tensors.items()})
                    for name, copy in staged.items()
                }
        except OSError as error:
            return NotSaved(f"{folder}: {error.strerror or error}")
        self._point("after", "save")
        return Saved(tuple(files), hashes)

    def _uncounted(self) -> AbstractContextManager[None]:
        """What this thread allocates is not the engine's."""
        return allocator.exempt() if self._memory is not None else nullcontext()

    def close(self) -> float:
        """End all threads, and calls that are under way with an error; in so many seconds."""
        self.training.expel("this worker got another assignment")
        self._attendance.stop(self._timeouts.grace_s)
        self._heart.stop(self._timeouts.grace_s)
        return self.flush_s

    # -- the generation's channel

    def _connect(self, deployment: Deployment) -> Connection:
        plan, address = deployment.orders.plan, self._address
        self._position.enter(plan.generation, self.training.trainer.step, "meet")
        self._point("before", "meet")
        host, port = deployment.meeting
        try:
            with channel_errors():
                limit = timedelta(seconds=self._timeouts.grace_s)
                met = TCPStore(host, port, is_master=False, timeout=limit)
                # A warm worker's store outlives the run: its keys must not meet another run's.
                store = PrefixStore(self._run_key, met)
                self._say_where(store)
            gather(
                store,
                plan.generation,
                self._assignment.worker,
                deployment.orders.members,
                self._timeouts.grace_s,
                lambda: self.training.is_over(plan.generation),
            )
            here = (
                store,
                plan.generation,
                self._assignment.worker,
                deployment.orders.members,
                self._timeouts.backstop_s,
                address,
            )
            bound_s, checked = self._timeouts.grace_s, self._assignment.job.integrity.wire
            channel: GlooChannel | NcclChannel
            if self._device.type == "cuda":
                channel = NcclChannel(
                    *here,
                    self._device,
                    connect_s=bound_s,
                    checked=checked,
                    outgoing=self._injector.sent,
                )
            else:
                channel = GlooChannel(
                    *here, connect_s=bound_s, checked=checked, outgoing=self._injector.sent
                )
            self._learn_where(store, deployment.orders.members)
            self._injector.met(deployment.orders.members)
        except RuntimeError as error:
            absent = error.workers if isinstance(error, AbsentWorkers) else frozenset[int]()
            raise ChannelFailed("meet", str(error), absent=absent) from error
        self._point("after", "meet")
        return channel

    def _say_where(self, store: PrefixStore) -> None:
        """In a drill, tell the others this process, so that a link to it can be cut."""
        if self._assignment.job.drills:
            store.set(f"process-{self._assignment.worker}", f"{socket.gethostname()} {os.getpid()}")

    def _learn_where(self, store: PrefixStore, workers: Iterable[int]) -> None:
        for worker in workers if self._assignment.job.drills else ():
            self._processes[worker] = store.get(f"process-{worker}").decode()

    def _process_of(self, worker: int) -> int:
        node, _, pid = self._processes.get(worker, "").rpartition(" ")
        if node != socket.gethostname():
            raise FaultError(f"worker {worker} is not known here, or on another machine")
        return int(pid)

    def _restore(self, deployment: Deployment) -> None:
        found = deployment.restore
        assert found is not None
        names = [spec.name for spec in self.training.trainer.holdings.model.specs]
        held = deployment.orders.plan.held(self._assignment.worker)
        states = {i: read_layer(found.folder, found.manifest.layer(names[i])) for i in held}
        self.training.trainer.restore(found.step, states)

    # -- orders and reports

    def _obey(self, command: Command) -> None:
        if command is not Command.NONE:
            self.training.trainer.drain()

    def _take_order(self, order: Order) -> None:
        match order.kind:
            case OrderKind.FENCE:
                self.training.fence(order.generation)
            case OrderKind.DRAIN:
                self.training.trainer.drain()
            case OrderKind.PAUSE:
                self.training.trainer.pause()
            case OrderKind.INJECT:
                if self._assignment.job.drills:
                    self._injector.order(order.text)
            case OrderKind.DUMP:
                faulthandler.dump_traceback()

    def _fenced(self, generation: int) -> None:
        self.training.expel(f"generation {generation} goes on without this worker")

    def _notice(self, _: float) -> None:
        """Tell the run that this worker's machine will be taken away."""
        client = self._dial()
        try:
            client.drain(self._assignment.worker)
        finally:
            client.close()

    def _point(self, moment: str, name: str) -> None:
        self._injector.at(self.training.trainer.step, moment, name)

    def _tell_fault(self, event: FaultInjected) -> None:
        self._reports.tell(event)
        self._heart.flush(self._timeouts.suspect_s)

    def _trouble(self, error: Exception) -> Trouble:
        _, step, action, _ = self._position.read()
        return Trouble(
            worker=self._assignment.worker,
            node=socket.gethostname(),
            step=step,
            action=action,
            cause=f"{type(error).__name__}: {error}",
            traceback="".join(traceback.format_exception(error)),
            secondary=isinstance(error, ChannelFailed),
            corrupt=isinstance(error, CorruptState),
        )
