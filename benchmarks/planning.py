"""How long planning takes after a failure, and how good it is: ``planning.py [--csv FILE]``.

For 32 to 16,384 cards of which some have just been lost: the front of layouts over step time and
time to get there, and detours with the prediction of their step. Caches are emptied before each
repetition; shown are medians. Then quality: against all layouts of small random cases, with and
without a memory limit, and on 32 cards against a search that is given far more effort.

Cell by cell: rows that FILE already has are not measured again.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, pairwise, product
from pathlib import Path
from random import Random

from ithaca.planner import clusters, deal, footprint, order
from ithaca.planner import front as front_module
from ithaca.planner.front import Effort, front
from ithaca.planner.layer import Layer
from ithaca.planner.layout import Layout, Split, split_of
from ithaca.planner.outlook import outlook
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.profile import Link, Profile
from ithaca.planner.reroute import rerouted
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate

RESULT = Path(__file__).parent.parent / "docs" / "results" / "planning.csv"
REPEATS = 5
LIMIT = 24 << 30
LOST = (1, 3)
SMALL_CASES = 60
LONG = Effort(timed=2000, slack=10.0, climbs=8, climbed=5_000, asked=1)
FIELDS = ("what", "cards", "lost", "limit_gib", "wall_s", "cpu_s", "step_s", "quality", "note")


@dataclass(frozen=True)
class Size:
    """A cluster of ``pipelines`` x ``stages`` cards before anything is lost."""

    pipelines: int
    stages: int
    layers: int
    micro_batches: int

    @property
    def cards(self) -> int:
        """All of them."""
        return self.pipelines * self.stages


SIZES = (
    Size(4, 8, 50, 64),
    Size(16, 8, 50, 256),
    Size(64, 16, 96, 1024),
    Size(128, 32, 128, 2048),
    Size(256, 64, 128, 4096),
)


def transformer(layers: int) -> Profile:
    """Blocks of 30.7 M parameters with the times of a V100 (JF-D/Parcae), on 10 Gb/s links."""
    block = Layer(
        "block",
        param_bytes=61 << 20,
        grad_bytes=123 << 20,
        state_bytes=368 << 20,
        activation_bytes=269 << 20,
        output_bytes=3 << 20,
        forward_s=0.00651,
        backward_s=0.01345,
        input_s=0.0068,
        weight_s=0.00665,
        step_s=0.00212,
        split=True,
    )
    return Profile((block,) * layers, Link(5e-5, 1.2e9), add_bytes_per_s=2e11)


def even(size: Size) -> Split:
    """The split of every pipeline before a loss."""
    return split_of(tuple(size.layers * k // size.stages for k in range(size.stages + 1)))


def way(layout: Layout, standing: Split, profile: Profile) -> float:
    """Seconds until the largest stage of a pipeline that does not stand has come."""
    new = {span for split in set(layout.splits) if split != standing for span in split}
    layers = profile.layers
    sizes = [sum(layers[k].param_bytes + layers[k].state_bytes for k in span) for span in new]
    return max(map(profile.link.seconds, sizes), default=0.0)


def forget() -> None:
    """Empty every cache that outlives a call."""
    for module in (order, footprint, deal, clusters):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def timed(what: Callable[[], float]) -> tuple[float, float, float]:
    """Median wall and CPU seconds of ``what``, and what it returns."""
    walls, cpus, result = [], [], 0.0
    for _ in range(REPEATS):
        forget()
        wall, cpu = time.perf_counter(), time.process_time()
        result = what()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus), result


def planning(size: Size, lost: int, limit: int | None) -> dict[str, object]:
    """The front for who is left after ``lost`` cards of as many pipelines are gone."""
    profile, split = transformer(size.layers), even(size)

    def plan() -> float:
        found = front(
            profile,
            size.cards - lost,
            size.micro_batches,
            limit=limit,
            standing=(split,) * (size.pipelines - lost),
            transition=lambda layout: way(layout, split, profile),
        )
        return found[0].step_s

    wall, cpu, step_s = timed(plan)
    return {"wall_s": f"{wall:.4f}", "cpu_s": f"{cpu:.4f}", "step_s": f"{step_s:.5f}"}


def rerouting(size: Size, lost: int) -> dict[str, object]:
    """Detours around the lost cards, and the prediction of the step with them."""
    profile, split = transformer(size.layers), even(size)
    share = size.micro_batches // size.pipelines
    layout = Layout(
        (split,) * size.pipelines, (share,) * size.pipelines, Schedule.ONE_F_ONE_B, 0.0, 0.0, 0
    )
    before = layout.plan(range(size.cards))
    gone = [place * size.stages + place + 1 for place in range(lost)]

    def plan() -> float:
        after = rerouted(before, gone)
        assert after is not None, "there are whole pipelines left"
        return outlook(after, profile).step_s

    wall, cpu, step_s = timed(plan)
    return {"wall_s": f"{wall:.4f}", "cpu_s": f"{cpu:.4f}", "step_s": f"{step_s:.5f}"}


def small(seed: int) -> tuple[Profile, int, int, Schedule]:
    """A random case of which all layouts can be looked at."""
    rng = Random(seed)
    layers = []
    for number in range(rng.randint(1, 6)):
        forward = rng.choice([0.5, 1.0, 2.0]) * 1e-2
        size = rng.choice([1000, 4000])
        saved, output = rng.choice([2000, 8000]), rng.choice([100, 1000])
        layer = Layer(f"{number}", size, size, 2 * size, saved, output, forward, 2 * forward)
        layer = replace(layer, input_s=forward, weight_s=forward, step_s=1e-3, split=True)
        layers.append(layer)
    link = Link(rng.choice([1e-5, 1e-3]), rng.choice([1e9, 1e6, 1e5]))
    profile = Profile(tuple(layers), link, add_bytes_per_s=1e8)
    return profile, rng.randint(1, 5), rng.randint(1, 6), rng.choice(list(Schedule))


def every_layout(layers: int, workers: int, total: int, schedule: Schedule) -> Iterator[Plan]:
    """All sequences of pipelines, splits and contiguous blocks."""

    def lengths(left: int) -> Iterator[tuple[int, ...]]:
        for first in range(1, min(left, layers) + 1):
            yield (first,)
            yield from ((first, *rest) for rest in lengths(left - first))

    def cut(whole: int, parts: int) -> list[tuple[int, ...]]:
        return [(0, *cuts, whole) for cuts in combinations(range(1, whole), parts - 1)]

    for chosen in lengths(workers):
        splits = product(*(map(split_of, cut(layers, length)) for length in chosen))
        for every, borders in product(splits, cut(total, len(chosen))):
            seats = iter(range(workers))
            yield Plan(
                tuple(
                    Pipeline(
                        tuple(Stage(span, next(seats)) for span in split), tuple(range(low, high))
                    )
                    for split, (low, high) in zip(every, pairwise(borders), strict=True)
                ),
                schedule,
            )


def against_all(tight: bool) -> dict[str, object]:
    """The worst of the small cases, as a factor on the best step of all layouts."""
    worst, beyond, cases = 1.0, 0, 0
    for seed in range(SMALL_CASES):
        profile, workers, total, schedule = small(seed)
        scored = []
        for plan in every_layout(len(profile.layers), workers, total, schedule):
            played = simulate(programs(plan, profile.layers), profile)
            scored.append((played.step_s, max(played.peak_bytes.values())))
        peaks = sorted({peak for _, peak in scored})
        for limit in (
            (peaks[0], peaks[len(peaks) // 8], peaks[len(peaks) // 3]) if tight else (None,)
        ):
            best = min(step_s for step_s, peak in scored if limit is None or peak <= limit)
            found = front(profile, workers, total, limit=limit, schedule=schedule)[0]
            factor = found.step_s / best
            worst, beyond, cases = max(worst, factor), beyond + (factor > 1.01), cases + 1
    return {"quality": f"{worst:.4f}", "note": f"{beyond} of {cases} cases beyond 1.01"}


def against_long(size: Size, lost: int, limit: int | None) -> dict[str, object]:
    """The front's step as a factor on that of a search with far more effort."""
    profile, workers = transformer(size.layers), size.cards - lost
    short = front(profile, workers, size.micro_batches, limit=limit)[0].step_s
    usual = front_module.MANY
    front_module.MANY = LONG
    try:
        long = front(profile, workers, size.micro_batches, limit=limit)[0].step_s
    finally:
        front_module.MANY = usual
    return {"step_s": f"{short:.5f}", "quality": f"{short / min(short, long):.4f}"}


def cells() -> Iterator[tuple[tuple[str, str, str, str], Callable[[], dict[str, object]]]]:
    """What is measured: a key of four fields, and how."""
    for size, lost in product(SIZES, LOST):
        for limit in (None, LIMIT):
            key = ("front", str(size.cards), str(lost), _gib(limit))
            yield key, partial(planning, size, lost, limit)
        yield ("reroute", str(size.cards), str(lost), ""), partial(rerouting, size, lost)
    for tight in (False, True):
        key = ("all layouts", "1-5", "", "tight" if tight else "")
        yield key, partial(against_all, tight)
    for lost, limit in product((0, *LOST), (None, LIMIT, LIMIT * 2 // 3)):
        key = ("long search", "32", str(lost), _gib(limit))
        yield key, partial(against_long, SIZES[0], lost, limit)


def _gib(limit: int | None) -> str:
    return "" if limit is None else f"{limit / 2**30:g}"


def main() -> None:
    """Measure what FILE does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--csv", type=Path, default=RESULT)
    path = parser.parse_args().csv
    known = set()
    if path.exists():
        with path.open(newline="") as file:
            known = {tuple(row[field] for field in FIELDS[:4]) for row in csv.DictReader(file)}
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(FIELDS) + "\n")
    for key, measure in cells():
        if key in known:
            continue
        row = dict(zip(FIELDS, key, strict=False)) | measure()
        with path.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS, lineterminator="\n").writerow(row)
        print(" ".join(f"{name}={value}" for name, value in row.items() if value != ""), flush=True)


if __name__ == "__main__":
    main()
