"""What a worker holds when it has been stopped: all that a new generation may build on.

Nothing is assumed about a worker but what it says itself once it stands still. So a second failure
during a recovery is no special case: everybody is asked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ithaca.recovery.tally import Tally

Place = tuple[int, int]
"""A layer or a cut, and a micro-batch."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One worker, standing still between two actions.

    Attributes:
        worker: whose it is.
        generation: the last one that it took part in.
        step: steps that it has committed; the one under way has this number.
        layers: whose state after ``step`` steps it holds.
        summed: layer to the micro-batches of the step under way that its partial sums cover.
        reduced: layers whose gradient it holds, summed over all micro-batches.
        activations: (cut, micro-batch) of outputs that it computed or received.
        gradients: the same for gradients that came back over the cut.
        forwards: (layer, micro-batch) whose F is done and whose B, or I, is not.
        owed: (layer, micro-batch) whose I is done and whose W is not.
        losses: micro-batches whose loss it knows.
        voted: it has sent its ballot.
        tally: of the last step that it committed; None before the first.
        validated: the last step behind which it finished a validation; -1 for none.
        corrupt: why nothing that it computed in this step may be used; empty if nothing is known.
    """

    worker: int
    generation: int
    step: int
    layers: frozenset[int]
    summed: Mapping[int, frozenset[int]] = field(default_factory=dict)
    reduced: frozenset[int] = frozenset()
    activations: frozenset[Place] = frozenset()
    gradients: frozenset[Place] = frozenset()
    forwards: frozenset[Place] = frozenset()
    owed: frozenset[Place] = frozenset()
    losses: frozenset[int] = frozenset()
    voted: bool = False
    tally: Tally | None = None
    validated: int = -1
    corrupt: str = ""

    @property
    def begun(self) -> bool:
        """Whether it holds anything of the step under way."""
        return bool(
            self.reduced
            or self.activations
            or self.forwards
            or self.losses
            or any(self.summed.values())
        )

    def at(self, step: int) -> Standing:
        """The same worker when everybody is in ``step``.

        Whoever has begun the step before is rolled forward, and then has begun nothing of this
        one. Whoever is behind and has begun nothing took no part: what it holds is out of date.
        """
        if self.step == step:
            return self
        layers = self.layers if self.step == step - 1 and self.begun else frozenset[int]()
        return Standing(
            self.worker, self.generation, step, layers, tally=self.tally, validated=self.validated
        )
