"""A drill's outcome as lines of text: every failure with its phases, then the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ithaca.recovery.drill import Result
from ithaca.recovery.timeline import Account, Episode
from ithaca.runtime.report.recovery import headline, spoken, title, where
from ithaca.runtime.report.wording import duration, plural, printable


def tell(result: Result, problems: Sequence[str], compared: bool = True) -> Iterator[str]:
    """The lines.

    Args:
        result: of the disturbed run.
        problems: the judge's.
        compared: the bits were compared with those of the undisturbed run.
    """
    for line in _lines(result, problems, compared):
        yield printable(line)


def tell_account(account: Account) -> Iterator[str]:
    """Every failure with its phases."""
    for number, episode in enumerate(account.episodes, 1):
        yield from _episode(number, episode)
    for injection in account.unnoticed:
        yield f"without a recovery: {injection.fault}"
    if account.restarts:
        yield f"the controller was replaced {plural(len(account.restarts), 'time')}"
    if any(episode.notices for episode in account.episodes):
        yield headline(account)


def _lines(result: Result, problems: Sequence[str], compared: bool) -> Iterator[str]:
    yield from tell_account(result.account)
    if not problems and compared:
        same = plural(len(result.trace.states), "step")
        yield f"passed: {same} with the bits of the undisturbed run"
        return
    if not problems:
        yield "passed; bits were not compared"
        return
    yield f"not passed: {plural(len(problems), 'difference')}"
    for problem in problems:
        yield f"  {problem}"


def _episode(number: int, episode: Episode) -> Iterator[str]:
    yield f"{number}. {title(episode)}"
    for injection in episode.injections:
        yield f"   drill       {injection.fault}"
    for notice in episode.notices:
        yield f"   where       {where(notice)}"
        yield f"   evidence    {notice.evidence}"
    for choice in episode.choices:
        yield f"   decision    generation {choice.generation} by {choice.strategy}: {choice.reason}"
    if not episode.recovered:
        yield "   the run did not recover from it"
        return
    if episode.latency_s is not None:
        yield f"   noticed     {duration(episode.latency_s)} after the fault"
    for name, seconds in episode.phases.items():
        yield f"   {spoken(name):<11} {duration(seconds)}"
    again = plural(episode.redone_micro_batches, "micro-batch")
    pause = "" if episode.pause_s is None else f"pause {duration(episode.pause_s)}, "
    yield f"   cost        {pause}{again} done again, {episode.lost_samples} samples lost"
    if episode.predicted_step_s is not None and episode.measured_step_s is not None:
        predicted, measured = duration(episode.predicted_step_s), duration(episode.measured_step_s)
        yield f"   step        predicted {predicted}, measured {measured}"
