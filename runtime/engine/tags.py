"""Message tags: one number for each message of a step, so that early receives cannot mix up."""

from __future__ import annotations

from dataclasses import dataclass

from ithaca.planner.program import Cargo, Transfer

PARTS = 16
"""Messages that one action may send to one peer."""

HEADER = PARTS - 1
"""The part that announces types and shapes."""


@dataclass(frozen=True, slots=True)
class Tags:
    """Numbers the messages of a step from the sizes that every worker knows."""

    num_layers: int
    num_micro_batches: int

    def transfer(self, action: Transfer) -> int:
        """First of the ``PARTS`` tags of a transfer; both ends compute the same."""
        side = 0 if action.cargo is Cargo.ACTIVATION else 1
        return ((action.cut * 2 + side) * self.num_micro_batches + action.micro_batch) * PARTS

    @property
    def _behind_transfers(self) -> int:
        return (self.num_layers + 1) * 2 * self.num_micro_batches * PARTS

    def reduce(self, first_layer: int, node_low: int) -> int:
        """A partial sum of the span that starts at ``first_layer``, of the node at ``node_low``."""
        return self._behind_transfers + first_layer * (self.num_micro_batches + 3) + node_low

    def gather(self, first_layer: int) -> int:
        """The reduced chunk of the span that starts at ``first_layer``."""
        return self.reduce(first_layer, self.num_micro_batches)

    def facts(self, first_layer: int) -> int:
        """What is told beside the reduction of the span: losses of its micro-batches."""
        return self.reduce(first_layer, self.num_micro_batches + 1)

    def spread(self, first_layer: int) -> int:
        """The reduced gradient of the span, for a holder that lacks it."""
        return self.reduce(first_layer, self.num_micro_batches + 2)

    def tie(self, lower: int, upper: int) -> int:
        """The gradient exchange of two tied layers."""
        base = self.reduce(self.num_layers, 0)
        return base + lower * self.num_layers + upper

    @property
    def ballot(self) -> int:
        """The commit."""
        return self.tie(self.num_layers, self.num_layers)

    def replay(self, part: int) -> int:
        """What a replay needs (parts below ``2 * PARTS``), and its two answers behind them."""
        return self.state(0, 4096) + part

    def thanks(self, layer: int) -> int:
        """The state of ``layer`` has come."""
        return self.ballot + 1 + layer

    def state(self, layer: int, part: int) -> int:
        """Tensor ``part`` of the state of ``layer`` on its way to a new holder."""
        return self.ballot + 1 + (part + 1) * self.num_layers + layer
