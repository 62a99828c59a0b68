"""What the interpreter asks of a machine, and when."""

from __future__ import annotations

from collections.abc import Iterator

from ithaca.planner.program import Compute, Program, Reduce, Replay, Spread, Step, Tie, Transfer
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.courier import Key
from ithaca.runtime.engine.interpreter import AHEAD, interpret
from ithaca.runtime.engine.steps import After, Before, Request, Steps

YES = Tally(True, False, 1, 1, 0.0, 0.0, 0.0, True, "")
SECOND_STAGE = Program.parse(
    "program worker=1 generation=0 layers=2 micro_batches=6\n"
    + "".join(f"RECV a1 m{mb} < w0\nF 1:2 m{mb}\n" for mb in range(6))
    + "".join(f"B 1:2 m{mb}\nSEND g1 m{mb} > w0\n" for mb in range(6))
    + "REDUCE 1:2 w1:0-5\nCOMMIT\nSTEP 1:2\n"
)


class Notes:
    """A machine that notes what it is asked for; shapes are known from micro-batch ``known``."""

    def __init__(self, known: int) -> None:
        self.said: list[str] = []
        self._known = known
        self._coming: set[Key] = set()

    def compute(self, action: Compute) -> None:
        self.said.append(str(action))

    def send(self, action: Transfer) -> None:
        self.said.append(str(action))

    def can_post(self, action: Transfer) -> bool:
        return action.micro_batch < self._known

    def post(self, action: Transfer) -> None:
        self._coming.add(action.key)
        self.said.append(f"post m{action.micro_batch}")

    def awaits(self, key: Key) -> bool:
        return key in self._coming

    def fetch(self, key: Key) -> Steps[None]:
        self._coming.remove(key)
        self.said.append(f"wait m{key[2]}")
        yield from ()

    def reduce(self, action: Reduce) -> Steps[None]:
        self.said.append(str(action))
        yield from ()

    def spread(self, action: Spread) -> Steps[None]:
        yield from ()

    def replay(self, action: Replay) -> Steps[None]:
        yield from ()

    def tie(self, action: Tie) -> Steps[None]:
        yield from ()

    def commit(self) -> Steps[Tally]:
        self.said.append("COMMIT")
        yield from ()
        return YES

    def step(self, action: Step, tally: Tally) -> None:
        assert tally is YES
        self.said.append(str(action))


def requests(notes: Notes) -> Iterator[Request]:
    """Run the program; what it yields."""
    assert (yield from interpret(SECOND_STAGE, notes)) is YES


def test_every_action_begins_and_ends_once_in_order() -> None:
    found = list(requests(Notes(known=6)))
    begun = [request.action for request in found if isinstance(request, Before)]
    ended = [request.action for request in found if isinstance(request, After)]
    assert begun == ended == list(SECOND_STAGE.actions)
    assert len(found) == 2 * len(begun)


def test_receives_are_posted_a_little_ahead_and_awaited_late() -> None:
    notes = Notes(known=6)
    list(requests(notes))
    said = notes.said
    assert said[: AHEAD + 1] == [f"post m{mb}" for mb in range(AHEAD + 1)]
    for mb in range(6):
        here = said.index(f"F 1:2 m{mb}")
        assert said[here - 1] == f"wait m{mb}"
        posted = sum(what.startswith("post") for what in said[:here])
        assert posted <= mb + 1 + AHEAD
    assert said[-3:] == ["REDUCE 1:2 w1:0-5", "COMMIT", "STEP 1:2"]


def test_without_a_shape_a_receive_waits_for_its_turn() -> None:
    notes = Notes(known=2)
    list(requests(notes))
    assert notes.said[:4] == ["post m0", "post m1", "wait m0", "F 1:2 m0"]
    for mb in range(2, 6):
        assert notes.said.index(f"post m{mb}") == notes.said.index(f"wait m{mb}") - 1
