"""Searches for chordless cycles against networkx.chordless_cycles, in one interleaved run."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import networkx as nx
import torch

from benchmarks.graphs.families import read_family
from ithaca.workloads.csgnn.graphs import Graphs
from ithaca.workloads.csgnn.smiles import read_smiles
from ithaca.workloads.csgnn.structure import cycles


@dataclass(frozen=True)
class Speed:
    """How fast one set of graphs was searched.

    Attributes:
        name: of the set.
        graphs: in it.
        longest: cycles that were looked for.
        cycles: found, by both.
        theirs: seconds of networkx; median over rounds.
        ours: seconds with one thread, cells emitted; median over rounds.
        parse: seconds of these for checks and neighbour lists, which networkx has made before.
        factor: median of the rounds' ratios, the parse left out on both sides.
        whole: the same with our parse.
    """

    name: str
    graphs: int
    longest: int
    cycles: int
    theirs: float
    ours: float
    parse: float
    factor: float
    whole: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.graphs} graphs, cycles <= {self.longest}: {self.cycles} cycles, "
            f"networkx {self.theirs:.3g} s, ours {self.ours:.3g} s, of these {self.parse:.2g} s to "
            f"parse; {self.factor:.0f} times, {self.whole:.0f} times with the parse"
        )


def of_networkx(graphs: list[nx.Graph]) -> Graphs:
    """The same graphs."""
    return Graphs.of([(len(graph), list(graph.edges)) for graph in graphs])


def to_networkx(graphs: Graphs) -> list[nx.Graph]:
    """The same graphs."""
    made = []
    for number in range(graphs.count):
        one = graphs.take(torch.tensor([number]))
        graph = nx.empty_graph(one.vertices)
        graph.add_edges_from(one.edges.t().tolist())
        made.append(graph)
    return made


def measured(name: str, graphs: list[nx.Graph], longest: int, rounds: int = 3) -> Speed:
    """Both searches, taking turns; counts must agree."""
    ours = of_networkx(graphs)
    rows: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        theirs_count, theirs = timed(
            lambda: sum(1 for graph in graphs for _ in nx.chordless_cycles(graph, longest))
        )
        tries = [timed(partial(_count, ours, longest)) for _ in range(3)]
        parse = min(timed(partial(_count, ours, 0))[1] for _ in range(3))
        count, mine = min(tries)
        if count != theirs_count:
            raise ValueError(f"{name}: {count} cycles, but networkx finds {theirs_count}")
        rows.append((theirs, mine, parse))
    return Speed(
        name,
        len(graphs),
        longest,
        count,
        median(theirs for theirs, _, _ in rows),
        median(mine for _, mine, _ in rows),
        median(parse for _, _, parse in rows),
        median(theirs / max(mine - parse, 1e-9) for theirs, mine, parse in rows),
        median(theirs / mine for theirs, mine, _ in rows),
    )


def _count(graphs: Graphs, longest: int) -> int:
    return len(cycles(graphs, longest).first) - 1


def timed(work: Callable[[], int]) -> tuple[int, float]:
    """What ``work`` returns, and the CPU seconds of this thread that it took."""
    began = time.thread_time()
    result = work()
    return result, time.thread_time() - began


def read_molecules(path: Path, most: int) -> Graphs:
    """The first molecules of a file of SMILES, plain or a .csv.gz with SMILES in its first column;
    a heading is passed over.

    Raises:
        ValueError: a line is broken.
    """
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    lines = [line.partition(",")[0].strip() for line in text.splitlines()]
    if lines[0].upper() == "SMILES":
        del lines[0]
    molecules = [read_smiles(line) for line in lines[:most]]
    return Graphs.of([(len(m.atoms), [(u, v) for u, v, _ in m.bonds]) for m in molecules])


def many(path: Path) -> str:
    """Seconds for the cycles of the first 250,000 molecules of a file, one thread."""
    graphs = read_molecules(path, 250_000)
    lines = []
    for longest in (6, 8, 12):
        count, seconds = timed(partial(_count, graphs, longest))
        lines.append(f"{graphs.count} molecules, cycles <= {longest}: {count} in {seconds:.3g} s")
    return "\n".join(lines)


def speeds(folder: Path) -> Iterator[Speed]:
    """All sets: the molecules of ``folder``/zinc, random graphs, strongly regular ones."""
    molecules = to_networkx(read_molecules(folder / "zinc" / "test.smi.txt", 1000))
    for longest in (6, 8, 12):
        yield measured("molecules", molecules, longest)
    sparse = [nx.gnm_random_graph(200, 600, seed) for seed in range(3)]
    for longest in (6, 8):
        yield measured("G(200, 600 edges)", sparse, longest)
    regular = [nx.random_regular_graph(4, 200, seed) for seed in range(3)]
    for longest in (8, 12):
        yield measured("4-regular, 200 vertices", regular, longest)
    near = [nx.random_geometric_graph(500, 0.067, seed=seed) for seed in range(3)]
    yield measured("geometric, 500 vertices", near, 8, rounds=1)
    strongly = to_networkx(read_family(folder, "sr361446").take(torch.arange(8)))
    for longest in (6, 8, 12):
        yield measured("sr(36,14,4,6)", strongly, longest)
