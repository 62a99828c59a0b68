"""A launch: attempts until one succeeds, the restarts are used up, or a signal ends it."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from ithaca.runtime.cluster import Cluster
from ithaca.runtime.script.agent import Attempt, new_log_folder
from ithaca.runtime.script.console import Console
from ithaca.runtime.script.contract import Meeting
from ithaca.runtime.script.crew import Crew, Interrupted
from ithaca.runtime.script.group import AttemptResult, Group
from ithaca.runtime.script.report import failure_report, restart_line
from ithaca.runtime.script.signals import Signals
from ithaca.runtime.script.spec import LaunchError, LaunchSpec

FAILED = 1
"""The exit code when a rank failed, whatever its own was, as with torchrun."""

_SIGNALLED = 128
_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a launch ended.

    Attributes:
        code: exit code for the shell: 0, 1 when a rank failed, 128 + n after signal n.
        report: the account of the failure, to be shown last; empty without one.
    """

    code: int
    report: str = ""


def launch(spec: LaunchSpec, cluster: Cluster, console: Console) -> Outcome:
    """Runs the script of ``spec`` on ``cluster``; call it in the main thread.

    Raises:
        LaunchError: nothing could be started, and a restart would not help.
    """
    with Signals(spec.signals) as signals:
        crew = Crew(cluster, spec, signals)
        try:
            return _attempts(spec, crew, console, signals)
        except Interrupted:
            return Outcome(_SIGNALLED + signals.received[0])
        except BrokenPipeError:
            return Outcome(_SIGNALLED + signal.SIGPIPE)
        finally:
            crew.disband()


def _attempts(spec: LaunchSpec, crew: Crew, console: Console, signals: Signals) -> Outcome:
    members = crew.muster()
    logs = new_log_folder(spec)
    if spec.log_folder is None and spec.routing.keeps_logs:
        console.say(f"ithaca launch: logs in {logs}")
    number = 0
    while True:
        [meeting] = crew.all([members[0].agent.meeting.remote()], _ANSWER_S)
        assert isinstance(meeting, Meeting)
        group = Group(crew, members, spec, console, signals)
        ended = group.run(Attempt(number, meeting, logs))
        ending = _ending(ended, number, spec)
        if ending is not None:
            break
        console.say(restart_line(ended.failures, number, spec.max_restarts))
        number += 1
        try:
            members = crew.muster()
        except LaunchError as error:
            return Outcome(FAILED, failure_report(ended.failures, number, f"no restart: {error}"))
    if not ended.failures and spec.log_folder is None and not spec.routing.keeps_logs:
        crew.all([member.agent.remove.remote(logs) for member in members], _ANSWER_S)
    if ended.stopped_by is not None:
        return Outcome(_SIGNALLED + ended.stopped_by)
    if ended.failures:
        return Outcome(FAILED, failure_report(ended.failures, number + 1, ending))
    return Outcome(0)


def _ending(ended: AttemptResult, number: int, spec: LaunchSpec) -> str | None:
    """Why no further attempt follows; None when one does."""
    if ended.stopped_by is not None:
        return f"stopped by {ended.stopped_by.name}"
    if not ended.failures:
        return "all ranks succeeded"
    if number >= spec.max_restarts:
        return f"no restart is left of {spec.max_restarts}" if spec.max_restarts else "no restarts"
    if number == 0 and any(failure.would_recur for failure in ended.failures):
        return "no restart, which would meet the same error"
    return None
