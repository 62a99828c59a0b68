"""One attempt: the ranks of all nodes are started together, watched, and ended together."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from ithaca.runtime.script.agent import Attempt
from ithaca.runtime.script.console import Console
from ithaca.runtime.script.contract import line_prefix
from ithaca.runtime.script.crew import Call, Crew, Interrupted, Member, result
from ithaca.runtime.script.failure import Failure, failure_of
from ithaca.runtime.script.ranks import Observation, Output, RankExit
from ithaca.runtime.script.signals import Signals
from ithaca.runtime.script.spec import LaunchSpec
from ithaca.runtime.script.streams import Shown, Stream

_SLICE_S = 0.1
_START_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended: the ranks that failed, and the signal that asked for the end."""

    failures: tuple[Failure, ...]
    stopped_by: signal.Signals | None


class Group:
    """The ranks of one attempt, from start to end."""

    def __init__(
        self,
        crew: Crew,
        members: Sequence[Member],
        spec: LaunchSpec,
        console: Console,
        signals: Signals,
    ) -> None:
        self._crew = crew
        self._members = list(members)
        self._spec = spec
        self._console = console
        self._signals = signals
        self._obeyed = 0
        self._failures: list[Failure] = []
        self._ended: set[int] = set()
        self._stopping = False
        self._kill_at: float | None = None
        self._give_up_at: float | None = None

    def run(self, attempt: Attempt) -> AttemptResult:
        """Starts the ranks and returns when all of them, and their children, have ended.

        Raises:
            LaunchError: a rank could not be started; the others have been ended.
            BrokenPipeError: nobody reads our output; the ranks still run, ``Crew.disband`` ends
                them.
        """
        self._expect_lines()
        self._start(attempt)
        calls: dict[Call, Member] = {m.agent.observe.remote(): m for m in self._members}
        while calls:
            self._obey_signals()
            self._keep_deadlines()
            ready, _ = ray.wait(list(calls), num_returns=1, timeout=_SLICE_S)
            for call in cast(list[Call], ready):
                member = calls.pop(call)
                seen = self._observed(call, member)
                if seen is not None and not seen.done:
                    calls[member.agent.observe.remote()] = member
            calls = {call: m for call, m in calls.items() if m in self._members}
        self._close()
        self._console.end()
        stopped_by = self._signals.received[0] if self._signals.received else None
        return AttemptResult(tuple(self._failures), stopped_by)

    def _expect_lines(self) -> None:
        self._console.expect(
            {
                (place.rank, stream): line_prefix(self._spec, place)
                for member in self._members
                for place in member.places
                for stream in Stream
                if self._spec.routing.shown(place.local_rank, stream) is Shown.PREFIXED
            }
        )

    def _start(self, attempt: Attempt) -> None:
        calls = [member.agent.start.remote(member.places, attempt) for member in self._members]
        try:
            self._crew.all(calls, _START_TIMEOUT_S)
        except Interrupted:
            return  # the ranks start all the same, and are then told of the signal
        except RayActorError:
            return  # seen again, with its member, at the first observation

    def _observed(self, call: Call, member: Member) -> Observation | None:
        """What an agent saw; None when the agent is lost."""
        try:
            seen = cast(Observation, result(call))
        except RayActorError as error:
            self._lose(member, str(error))
            return None
        self._console.write(seen.outputs)
        if not seen.outputs:
            for place in member.places:
                self._console.idle(place.rank)
        for end in seen.exits:
            self._note(end)
        return seen

    def _note(self, end: RankExit) -> None:
        self._ended.add(end.place.rank)
        if end.code == 0:
            return
        failure = failure_of(end)
        ours = (-signal.SIGTERM, -signal.SIGKILL, *(-n for n in self._signals.received))
        if self._stopping and end.code in ours and not failure.has_traceback:
            return  # ended by us, with nothing of its own to tell
        self._failures.append(failure)
        self._stop(signal.SIGTERM)

    def _lose(self, member: Member, reason: str) -> None:
        """An agent is gone, and with it, by their parent-death signals, its ranks."""
        self._members.remove(member)
        self._crew.dismiss(member.agent)
        lost = [place for place in member.places if place.rank not in self._ended]
        self._failures += [
            Failure(
                place=place,
                host=member.machine.host,
                pid=None,
                code=None,
                at=time.time(),
                trace=reason,
                source="agent's end, as Ray tells it",
                folder=None,
            )
            for place in lost
        ]
        self._stop(signal.SIGTERM)

    def _obey_signals(self) -> None:
        received = self._signals.received
        while self._obeyed < len(received):
            self._obeyed += 1
            if self._obeyed == 1:
                self._stop(received[0])
            else:
                self._kill()

    def _stop(self, number: signal.Signals) -> None:
        """Asks all ranks to end; the first request starts the clock."""
        if self._stopping:
            return
        self._stopping = True
        self._kill_at = time.monotonic() + self._spec.shutdown_timeout_s
        self._send(number)

    def _kill(self) -> None:
        self._kill_at = None
        self._give_up_at = time.monotonic() + _KILL_TIMEOUT_S
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for member in self._members:
            member.agent.signal.remote(int(number))

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill()
        if self._give_up_at is not None and now >= self._give_up_at:
            for member in list(self._members):
                self._lose(member, f"its ranks outlived SIGKILL for {_KILL_TIMEOUT_S:.0f} s")

    def _close(self) -> None:
        calls: list[tuple[Call, Member]] = [(m.agent.close.remote(), m) for m in self._members]
        bound = self._spec.shutdown_timeout_s + _KILL_TIMEOUT_S
        ray.wait([call for call, _ in calls], num_returns=len(calls), timeout=bound)
        for call, member in calls:
            try:
                self._console.write(cast(tuple[Output, ...], result(call)))
            except (RayActorError, GetTimeoutError) as error:
                self._lose(member, f"its agent ended after the ranks: {error}")
