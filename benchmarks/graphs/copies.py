"""Relabelled copies of a graph, with the profile that a search of each copy would find."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ithaca.workloads.csgnn.graphs import Graphs, begins
from ithaca.workloads.csgnn.structure import Profile


def permutations(graph: Graphs, count: int, generator: torch.Generator) -> list[Tensor]:
    """The identity and random permutations, so that no two copies of ``graph`` have the same edges.

    A graph with few labelings may have fewer: then copies repeat after 1,000 vain tries.
    """
    size = graph.vertices
    chosen = [torch.arange(size)]
    seen = {_edge_set(graph, chosen[0])}
    tries = 0
    while len(chosen) < count:
        new = torch.randperm(size, generator=generator)
        edges = _edge_set(graph, new)
        tries += 1
        if edges in seen and tries < 1000:
            continue
        seen.add(edges)
        chosen.append(new)
    return chosen


def _edge_set(graph: Graphs, new: Tensor) -> bytes:
    moved = new[graph.edges].sort(0).values
    return (moved[0] * graph.vertices + moved[1]).sort().values.numpy().tobytes()


def copies(graph: Graphs, profile: Profile, news: list[Tensor]) -> tuple[Graphs, Profile]:
    """Copies of one graph in which vertex v is called ``new[v]``, and their profile.

    The searches give a relabelled graph the relabelled profile, so this is, to the last bit, what
    a search of the copies finds.
    """
    size, count = graph.vertices, len(news)
    shifted = torch.stack(news) + size * torch.arange(count)[:, None]  # [copies, size]
    edges = shifted[:, graph.edges].permute(1, 0, 2).reshape(2, -1)
    starts = size * torch.arange(count + 1)
    source, other = profile.first_vertices(), profile.other.long()
    sources, others = shifted[:, source].flatten(), shifted[:, other].flatten()
    order = torch.argsort(sources * (size * count) + others)
    sizes = torch.bincount(sources, minlength=size * count)
    found = replace(
        profile,
        first=begins(sizes),
        other=others[order].int(),
        row=profile.row.repeat(count)[order],
        reach=profile.reach.repeat(count, 1),
    )
    return Graphs(starts, edges.contiguous()), found
