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

    ``layers`` must be those of one stage of the micro-batch's own pipeline or a part of them, and
    ``worker`` must hold them. Written ``route mN first:last@wK``.
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

    A *shadow* is a worker that holds further layers and steps them with the reduced gradients, but
    computes nothing on them: a second holder. It may have a stage beside it, or none. Written
    ``shadow first:last@wN``.

    Raises:
        ValueError: the pipelines do not hold the same layers, a worker or a micro-batch appears
            twice, ids are missing, or a route or a shadow does not fit.
    """

    pipelines: tuple[Pipeline, ...]
    schedule: Schedule = Schedule.ONE_F_ONE_B
    generation: int = 0
    routes: tuple[Route, ...] = ()
    shadows: tuple[Stage, ...] = ()

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
        return tuple(sorted({stage.worker for stage in (*self.stages(), *self.shadows)}))

    def stages(self) -> Iterator[Stage]:
        """Every stage, pipeline by pipeline."""
        for pipeline in self.pipelines:
            yield from pipeline.stages

    def layers_of(self, worker: int) -> Span:
        """The layers of the stage of ``worker``; ``KeyError`` if it has none."""
        for stage in self.stages():
            if stage.worker == worker:
                return stage.layers
        raise KeyError(f"worker {worker} has no stage in this plan of {self.workers}")

    def held(self, worker: int) -> tuple[int, ...]:
        """All layers that ``worker`` holds, as stage or as shadow, ascending."""
        spans = [s.layers for s in (*self.stages(), *self.shadows) if s.worker == worker]
        return tuple(sorted(layer for span in spans for layer in span))

    def holders(self, layer: int) -> tuple[int, ...]:
        """Workers that hold ``layer``, as stage or as shadow, ascending."""
        held = (*self.stages(), *self.shadows)
        return tuple(sorted(s.worker for s in held if layer in s.layers))

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
        shadows = [f"shadow {shadow}" for shadow in self.shadows]
        return "\n".join([head, *map(str, self.pipelines), *map(str, self.routes), *shadows]) + "\n"

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan that ``str`` wrote; ``ValueError`` names the line that is wrong."""
        head: dict[str, str] = {}
        pipelines: list[Pipeline] = []
        routes: list[Route] = []
        shadows: list[Stage] = []
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
                    case ["shadow", stage]:
                        shadows.append(Stage.parse(stage))
                    case _:
                        raise ValueError("expected 'plan', 'pipeline', 'route' or 'shadow'")
            except ValueError as error:
                raise ValueError(f"line {number} of the plan, {line!r}: {error}") from error
        if set(head) != {"generation", "schedule"}:
            raise ValueError("a plan starts with: plan generation=N schedule=NAME")
        schedule = Schedule(head["schedule"])
        generation = int(head["generation"])
        return cls(tuple(pipelines), schedule, generation, tuple(routes), tuple(shadows))


def _check(plan: Plan) -> None:
    if not plan.pipelines or not all(pipeline.stages for pipeline in plan.pipelines):
        raise ValueError("a plan has at least one pipeline, and each at least one stage")
    num_layers = plan.num_layers
    for pipeline in plan.pipelines:
        held = [layer for stage in pipeline.stages for layer in stage.layers]
        if held != list(range(num_layers)):
            raise ValueError(f"{pipeline} must hold layers 0 to {num_layers - 1} once, in order")
    staged = [stage.worker for stage in plan.stages()]
    if len(set(staged)) != len(staged):
        raise ValueError(f"a worker holds one stage of one pipeline; got workers {sorted(staged)}")
    ids = sorted(mb for pipeline in plan.pipelines for mb in pipeline.micro_batches)
    if not ids or ids != list(range(len(ids))):
        raise ValueError(f"micro-batches must be 0 to M-1, each in one pipeline; got {ids}")
    _check_shadows(plan)
    _check_routes(plan)


def _check_shadows(plan: Plan) -> None:
    for worker in {shadow.worker for shadow in plan.shadows}:
        held = plan.held(worker)
        if len(set(held)) != len(held) or held[-1] >= plan.num_layers:
            raise ValueError(
                f"a shadow holds layers of 0 to {plan.num_layers - 1} that its worker does not "
                f"hold already; worker {worker} would hold {held}"
            )


def _check_routes(plan: Plan) -> None:
    workers, taken = set(plan.workers), set[tuple[int, int]]()
    homes = {mb: pipeline for pipeline in plan.pipelines for mb in pipeline.micro_batches}
    held = {worker: set(plan.held(worker)) for worker in {route.worker for route in plan.routes}}
    for route in plan.routes:
        home = homes.get(route.micro_batch)
        spans = [stage.layers for stage in home.stages] if home else []
        if not any(s.first <= route.layers.first and route.layers.last <= s.last for s in spans):
            raise ValueError(f"{route} does not name a stage of its micro-batch's pipeline")
        if route.worker not in workers:
            raise ValueError(f"{route} names a worker outside the plan {plan.workers}")
        if not held[route.worker].issuperset(route.layers):
            ids = format_ids(held[route.worker])
            raise ValueError(f"{route}: worker {route.worker} holds layers {ids} only")
        cells = {(route.micro_batch, layer) for layer in route.layers}
        if cells & taken:
            raise ValueError("a micro-batch has two routes for the same layer")
        taken |= cells
