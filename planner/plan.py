"""Who holds which layers and who computes which micro-batches, for one generation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ithaca.planner.span import Span, format_ids, parse_ids


class Schedule(Enum):
    """The order of a pipeline's actions.

    ``gpipe``: all forwards, then all backwards (GPipe, arXiv 1811.06965).
    ``1f1b``: one forward, one backward in turn (PipeDream-Flush, arXiv 2006.09503).
    ``1f1b-split``: 1F1B with B split into I (input) and W (weights, which fill bubbles;
    Zero Bubble, arXiv 2401.10241).
    """

    GPIPE = "gpipe"
    ONE_F_ONE_B = "1f1b"
    ONE_F_ONE_B_SPLIT = "1f1b-split"


@dataclass(frozen=True, slots=True)
class Stage:
    """``worker`` holds ``layers``; written ``first:last@wN``."""

    layers: Span
    worker: int

    def __str__(self) -> str:
        return f"{self.layers}@w{self.worker}"

    @classmethod
    def parse(cls, text: str) -> Stage:
        """The stage that ``str`` wrote; ``ValueError`` if the text is no stage."""
        layers, at, worker = text.partition("@w")
        if not (at and worker.isdecimal()):
            raise ValueError(f"a stage is written first:last@wN, not {text!r}")
        return cls(Span.parse(layers), int(worker))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages that together hold every layer once, and the logical micro-batches they compute."""

    stages: tuple[Stage, ...]
    micro_batches: tuple[int, ...]

    def __str__(self) -> str:
        stages = " ".join(str(stage) for stage in self.stages)
        return f"pipeline {format_ids(self.micro_batches)} {stages}"


@dataclass(frozen=True, slots=True)
class Route:
    """Micro-batch ``micro_batch`` is computed by ``worker`` on ``layers``, not by its default.

    ``layers`` must be those of one stage of the micro-batch's own pipeline, and ``worker`` must
    hold them. Written ``route mN first:last@wK``.
    """

    micro_batch: int
    layers: Span
    worker: int

    def __str__(self) -> str:
        return f"route m{self.micro_batch} {self.layers}@w{self.worker}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One generation of a job: pipelines, their stages, the micro-batches and the detours.

    A worker may own stages in one pipeline only. Micro-batches 0..M-1 are the logical ids of one
    step; each belongs to exactly one pipeline. A pipeline may have no micro-batch.

    Raises:
        ValueError: the pipelines do not hold the same layers, a worker or a micro-batch appears
            twice, ids are missing, or a route does not fit.
    """

    pipelines: tuple[Pipeline, ...]
    schedule: Schedule = Schedule.ONE_F_ONE_B
    generation: int = 0
    routes: tuple[Route, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def num_layers(self) -> int:
        """Layers of the workload."""
        return self.pipelines[0].stages[-1].layers.last

    @property
    def num_micro_batches(self) -> int:
        """Logical micro-batches of one step, over all pipelines."""
        return sum(len(pipeline.micro_batches) for pipeline in self.pipelines)

    @property
    def workers(self) -> tuple[int, ...]:
        """Ids of all workers, ascending; the position is the rank in this generation."""
        return tuple(sorted(stage.worker for stage in self.stages()))

    def stages(self) -> Iterator[Stage]:
        """Every stage, pipeline by pipeline."""
        for pipeline in self.pipelines:
            yield from pipeline.stages

    def layers_of(self, worker: int) -> Span:
        """The layers that ``worker`` holds; ``KeyError`` if it is not in the plan."""
        for stage in self.stages():
            if stage.worker == worker:
                return stage.layers
        raise KeyError(f"worker {worker} is not in this plan; it has {self.workers}")

    def holders(self, layer: int) -> tuple[int, ...]:
        """Workers that hold ``layer``, ascending."""
        return tuple(sorted(s.worker for s in self.stages() if layer in s.layers))

    def worker_of(self, layer: int, micro_batch: int) -> int:
        """Who computes ``micro_batch`` on ``layer``, routes included."""
        for route in self.routes:
            if route.micro_batch == micro_batch and layer in route.layers:
                return route.worker
        for pipeline in self.pipelines:
            if micro_batch in pipeline.micro_batches:
                return next(s.worker for s in pipeline.stages if layer in s.layers)
        raise KeyError(f"micro-batch {micro_batch} is not in this plan")

    def __str__(self) -> str:
        head = f"plan generation={self.generation} schedule={self.schedule.value}"
        return "\n".join([head, *map(str, self.pipelines), *map(str, self.routes)]) + "\n"

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan that ``str`` wrote; ``ValueError`` names the line that is wrong."""
        head: dict[str, str] = {}
        pipelines: list[Pipeline] = []
        routes: list[Route] = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            try:
                match words:
                    case []:
                        pass
                    case ["plan", *pairs]:
                        head = dict(pair.split("=", 1) for pair in pairs)
                    case ["pipeline", ids, *stages]:
                        parsed = tuple(map(Stage.parse, stages))
                        pipelines.append(Pipeline(parsed, parse_ids(ids)))
                    case ["route", micro_batch, stage] if micro_batch.startswith("m"):
                        at = Stage.parse(stage)
                        routes.append(Route(int(micro_batch[1:]), at.layers, at.worker))
                    case _:
                        raise ValueError("expected 'plan', 'pipeline' or 'route'")
            except ValueError as error:
                raise ValueError(f"line {number} of the plan, {line!r}: {error}") from error
        if set(head) != {"generation", "schedule"}:
            raise ValueError("a plan starts with: plan generation=N schedule=NAME")
        schedule = Schedule(head["schedule"])
        return cls(tuple(pipelines), schedule, int(head["generation"]), tuple(routes))


def _check(plan: Plan) -> None:
    if not plan.pipelines or not all(pipeline.stages for pipeline in plan.pipelines):
        raise ValueError("a plan has at least one pipeline, and each at least one stage")
    num_layers = plan.num_layers
    for pipeline in plan.pipelines:
        held = [layer for stage in pipeline.stages for layer in stage.layers]
        if held != list(range(num_layers)):
            raise ValueError(f"{pipeline} must hold layers 0 to {num_layers - 1} once, in order")
    if len(set(plan.workers)) != len(plan.workers):
        raise ValueError(f"a worker holds one stage of one pipeline; got workers {plan.workers}")
    ids = sorted(mb for pipeline in plan.pipelines for mb in pipeline.micro_batches)
    if not ids or ids != list(range(len(ids))):
        raise ValueError(f"micro-batches must be 0 to M-1, each in one pipeline; got {ids}")
    for route in plan.routes:
        home = next((p for p in plan.pipelines if route.micro_batch in p.micro_batches), None)
        if home is None or route.layers not in [stage.layers for stage in home.stages]:
            raise ValueError(f"{route} does not name a stage of its micro-batch's pipeline")
        if route.worker not in plan.workers:
            raise ValueError(f"{route} names a worker outside the plan {plan.workers}")
        held_by = plan.layers_of(route.worker)
        if held_by.first > route.layers.first or held_by.last < route.layers.last:
            raise ValueError(f"{route}: worker {route.worker} holds {held_by} only")
    keys = [(route.micro_batch, route.layers) for route in plan.routes]
    if len(set(keys)) != len(keys):
        raise ValueError("a micro-batch has two routes for the same stage")
