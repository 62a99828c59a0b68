"""How long a step could take by the numbers of pipelines, stages and micro-batches alone.

To rank thousands of shapes before cuts are looked for. It is within some ten percent of what the
recurrence gives for the fastest cuts, above it or below.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ithaca.planner.costs import VOTE_BYTES, reduce_s
from ithaca.planner.deal import all_nodes
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.shapes import Shape


class Rough:
    """Estimates of shapes that know no cuts: what good ones could reach.

    Args:
        profile: of the workload.
        schedule: of all pipelines.
        slowest: with 1, 2, ... stages, seconds per micro-batch of the slowest one.
        exact: sums in the fixed tree, or plain all-reduce.
    """

    def __init__(
        self, profile: Profile, schedule: Schedule, slowest: Sequence[float], *, exact: bool
    ) -> None:
        layers = profile.layers
        self._exact = exact
        self._profile = profile
        self._schedule = schedule
        self._slowest = slowest
        self._forward_s = sum(layer.forward_s for layer in layers)
        self._all_s = self._forward_s + sum(layer.backward_s for layer in layers)
        links = sorted(profile.link.seconds(layer.output_bytes) for layer in layers[:-1])
        self._links = [0.0, *accumulate(links)]
        self._bytes = sum(layer.grad_bytes for layer in layers)

    def pipeline_s(self, length: int, share: int) -> float:
        """Seconds until a pipeline's last compute ends; linear in ``share``."""
        slowest, crossing = self._slowest[length - 1], 2 * self._links[length - 1]
        fill = self._all_s + crossing
        if self._schedule is Schedule.ONE_F_ONE_B_SPLIT:
            # Zero Bubble H1: filling and draining cost a forward per further stage.
            fill = slowest + (length - 1) * self._forward_s / length + crossing
        elif self._schedule is Schedule.ONE_F_ONE_B and share > length:
            # No more micro-batches than stages are between their forward and their backward.
            slowest = max(slowest, fill / length)
        return fill + (share - 1) * slowest

    def step_s(self, shape: Shape) -> float:
        """Seconds of a step: the slowest pipeline, its largest reduction, the vote."""
        link = self._profile.link
        workers = sum(part.length * part.pipelines for part in shape)
        longest_s = max(
            self.pipeline_s(part.length, part.share) + self._burst_s(part.share) for part in shape
        )
        vote_s = (workers - 1) * link.seconds(VOTE_BYTES)
        return longest_s + self._reduce_s(shape) + vote_s

    def _burst_s(self, share: int) -> float:
        """Additions of the micro-batch that completes most of the tree, stage by stage."""
        bursts = share.bit_length() - 1 if self._exact else 1
        return bursts * self._bytes / self._profile.add_bytes_per_s

    def _reduce_s(self, shape: Shape) -> float:
        pipelines = sum(part.pipelines for part in shape)
        most, total = 1, pipelines
        if self._exact:
            groups = [(part.share, part.pipelines) for part in shape]
            total_micro_batches = sum(size * count for size, count in groups)
            most, total = min(
                all_nodes(order, total_micro_batches) for order in (groups, groups[::-1])
            )
        length = min(part.length for part in shape)
        size = self._bytes * self._slowest[length - 1] / self._slowest[0]
        if len({part.length for part in shape}) == 1:
            return reduce_s(self._profile, size, pipelines, most, total)
        # Stages of different length are reduced in several pieces.
        return 2 * reduce_s(self._profile, size / 2, pipelines, most, total)
