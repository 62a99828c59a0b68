"""The states of a run and the ways between them."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a run is in its life."""

    STARTING = "starting"
    TRAINING = "training"
    DRAINING = "draining"
    RECOVERING = "recovering"
    SAVING = "saving"
    FINISHED = "finished"
    DRAINED = "drained"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """Nothing follows."""
        return not NEXT[self]


NEXT: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.TRAINING, State.FAILED}),
    State.TRAINING: frozenset({State.DRAINING, State.RECOVERING, State.SAVING, State.FAILED}),
    State.DRAINING: frozenset({State.RECOVERING, State.SAVING, State.FAILED}),
    State.RECOVERING: frozenset({State.TRAINING, State.DRAINING, State.FAILED}),
    State.SAVING: frozenset({State.RECOVERING, State.FINISHED, State.DRAINED, State.FAILED}),
    State.FINISHED: frozenset(),
    State.DRAINED: frozenset(),
    State.FAILED: frozenset(),
}
"""From each state to those that may follow it."""


class Life:
    """The current state of a run; refuses a step that :data:`NEXT` does not have."""

    def __init__(self) -> None:
        self.state = State.STARTING

    def enter(self, state: State) -> None:
        """Go on to ``state``; ``ValueError`` if that does not follow."""
        if state not in NEXT[self.state]:
            raise ValueError(f"a run that is {self.state.value} cannot become {state.value}")
        self.state = state
