"""Sums of gradients over workers: exactly, in the fixed tree, or fast, in the library's order.

Exact: a reduce-scatter of partial sums, the additions in tree order, an all-gather. Holder number
k owns chunk k of the vector; every worker sends it its partial sums of that chunk, one per node of
its cover, and it returns the whole sum. Addition is elementwise, so neither the chunks nor the
number of holders show in the bits; only the tree does, and that depends on M alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ithaca.planner.program import Reduce
from ithaca.planner.tree import Node, cover
from ithaca.runtime.engine.channel import Channel
from ithaca.runtime.engine.flat import Flat
from ithaca.runtime.engine.partials import evaluate
from ithaca.runtime.engine.steps import Pending, Steps
from ithaca.runtime.engine.tags import Tags


def add(left: Tensor, right: Tensor) -> Tensor:
    """left + right in new memory: partial sums stay as they are until the commit."""
    return left + right


def exact_sum(
    action: Reduce,
    mine: Mapping[Node, Tensor],
    flat: Flat,
    out: Tensor,
    channel: Channel,
    tags: Tags,
) -> Steps[Tensor]:
    """The tree sum of all shares of ``action``, written into ``out`` and returned.

    Args:
        action: names the holders and who brings which micro-batches.
        mine: this worker's partial sums by node, vectors of ``flat.size`` elements, fp32.
        flat: the vector's layout.
        out: a vector of ``flat.size`` elements.
        channel: to the other holders.
        tags: numbers the messages.
    """
    total = tags.num_micro_batches
    holders = [share.worker for share in action.shares]
    chunks = dict(zip(holders, flat.chunks(len(holders)), strict=True))
    start, end = chunks[channel.worker]
    first = action.layers.first
    incoming: dict[Node, Pending] = {}
    for share in action.shares:
        if share.worker != channel.worker and end > start:
            for node in cover(share.micro_batches, total):
                buffer = out.new_empty(end - start)
                incoming[node] = channel.receive(share.worker, tags.reduce(first, node[0]), buffer)
    for peer, (low, high) in chunks.items():
        if peer != channel.worker and high > low:
            for node, vector in mine.items():
                channel.send(peer, tags.reduce(first, node[0]), vector[low:high])
    gathered = [
        channel.receive(peer, tags.gather(first), out[low:high])
        for peer, (low, high) in chunks.items()
        if peer != channel.worker and high > low
    ]
    if end > start:
        nodes = {node: vector[start:end] for node, vector in mine.items()}
        for node, pending in incoming.items():
            nodes[node] = yield pending
        out[start:end].copy_(evaluate(nodes, total, add))
        for peer in holders:
            if peer != channel.worker:
                channel.send(peer, tags.gather(first), out[start:end])
    for pending in gathered:
        yield pending
    return out


def fast_sum(
    action: Reduce, mine: Mapping[Node, Tensor], out: Tensor, channel: Channel
) -> Steps[Tensor]:
    """The sum by plain all-reduce: depends on who computed what; in ``out``, or in ``mine``."""
    if len(mine) == 1:
        (out,) = mine.values()
    else:
        out.zero_()
        for vector in mine.values():
            out.add_(vector)
    workers = tuple(share.worker for share in action.shares)
    if len(workers) > 1:
        yield channel.all_reduce(workers, out)
    return out
