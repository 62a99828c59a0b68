"""What was measured: the costs of every layer, the links, and where each number came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ithaca.planner.layer import Layer


@dataclass(frozen=True, slots=True)
class Link:
    """A connection between two workers: ``latency_s`` seconds plus bytes / ``bytes_per_s``."""

    latency_s: float = 1e-4
    bytes_per_s: float = 1e9

    def seconds(self, size: int) -> float:
        """Seconds that ``size`` bytes take, alone on the link."""
        return self.latency_s + size / self.bytes_per_s


@dataclass(frozen=True, slots=True)
class MemoryCost:
    """What less memory costs: with room for ``share`` of its activations a step takes longer.

    Attributes:
        share: bytes that there is room for, of those of a step that saves none; 1 is all.
        slowdown: step time over that of a step with room for all; at least 1.
    """

    share: float
    slowdown: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The costs that the simulator and the search read.

    Attributes:
        layers: one entry per layer of the workload, in order.
        link: point to point, between any two workers.
        action_s: seconds that interpreting one action costs beyond its own work.
        add_bytes_per_s: bytes of gradient added per second in REDUCE.
        origin: for each group of numbers, where it came from ("measured on ...", "default").
        memory_costs: ascending by share; empty where workers cannot save memory, or it is unknown.
    """

    layers: tuple[Layer, ...]
    link: Link = Link()
    action_s: float = 2e-5
    add_bytes_per_s: float = 4e9
    origin: Mapping[str, str] = field(default_factory=dict)
    memory_costs: tuple[MemoryCost, ...] = ()

    def slowdown(self, share: float) -> float | None:
        """What room for only ``share`` of the activations costs; None if it cannot be.

        Between two rows of ``memory_costs`` it is interpolated.
        """
        if share >= 1:
            return 1.0
        rows = self.memory_costs
        above = next((place for place, row in enumerate(rows) if row.share >= share), len(rows))
        if above == 0 and (not rows or share < rows[0].share):
            return None
        if above == len(rows):
            return rows[-1].slowdown
        high, low = rows[above], rows[max(0, above - 1)]
        if high.share <= low.share:
            return high.slowdown
        part = (share - low.share) / (high.share - low.share)
        # Rounded, the line may end below its end.
        return max(low.slowdown + part * (high.slowdown - low.slowdown), high.slowdown)

    def to_json(self) -> str:
        """A text that :meth:`from_json` reads back."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """The profile that :meth:`to_json` wrote; ``ValueError`` if it is none."""
        try:
            data = json.loads(text)
            layers = tuple(Layer(**layer) for layer in data.pop("layers"))
            costs = tuple(MemoryCost(**row) for row in data.pop("memory_costs", ()))
            link = Link(**data.pop("link"))
            return cls(layers=layers, link=link, memory_costs=costs, **data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a profile: {error}") from error
