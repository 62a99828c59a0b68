"""The headline figures of a run, and its curves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from ithaca.planner.plan import Plan
from ithaca.runtime.report.chart import Chart, Curve, Points, chart, smooth
from ithaca.runtime.report.story import Story
from ithaca.runtime.report.wording import duration, figure, plural, rate_unit, short

_FEW = 40
"""Steps up to which a curve is not smoothed."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline figure with its unit and a remark."""

    label: str
    value: str
    unit: str = ""
    remark: str = ""


def facts(story: Story, plan: Plan | None) -> list[str]:
    """What kind of run it is, in a few words each."""
    out = []
    if story.run is not None:
        job = story.run.job
        workload = job.get("workload")
        use = workload.get("use") if isinstance(workload, dict) else None
        out += [str(use)] if use else []
        out += [f"{job['numerics']} numerics"] if "numerics" in job else []
        out += [str(job["precision"])] if "precision" in job else []
    if plan is not None:
        out += [layout(plan), plan.schedule.value, plural(plan.num_micro_batches, "micro-batch")]
    if story.starts:
        out.append(f"started {_moment(story.starts[0].time_s)}")
    return out


def layout(plan: Plan) -> str:
    """Pipelines and stages, such as ``2 pipelines × 2 stages``."""
    counts = [len(pipeline.stages) for pipeline in plan.pipelines]
    if len(set(counts)) == 1:
        return f"{plural(len(counts), 'pipeline')} × {plural(counts[0], 'stage')}"  # noqa: RUF001
    return f"{plural(len(counts), 'pipeline')} of {', '.join(map(str, counts))} stages"


def tiles(story: Story) -> list[Tile]:
    """Steps, losses, throughput and time, as far as they are known."""
    total = f"of {story.run.steps:,}" if story.run else ""
    again = f"{story.repeated:,} done again" if story.repeated else ""
    out = [Tile("Steps", f"{story.committed:,}", total, again)]
    metric = story.run.metric if story.run else "loss"
    if story.validations:
        points = [(v.step, v.loss * story.scale) for v in story.validations.values()]
        first, last = points[0], points[-1]
        begin = f"from {figure(first[1])}" if len(points) > 1 else f"after {last[0]:,} steps"
        out.append(Tile("Validation", figure(last[1]), metric, begin))
    if story.steps:
        losses = [done.loss * story.scale for done in story.steps.values()]
        begin = f"from {figure(losses[0])}" if len(losses) > 1 else ""
        out.append(Tile("Training loss", figure(losses[-1]), metric, begin))
        rates = [rate for _, rate in _rates(story)]
        if rates:
            step_s = median(done.seconds for done in story.steps.values())
            remark = f"{duration(step_s)} a step"
            out.append(Tile("Throughput", short(median(rates)), rate_unit(metric), remark))
    if story.starts:
        number = len(story.starts)
        remark = f"{plural(number, 'attempt')}" if number > 1 else ""
        out.append(Tile("Duration", duration(story.worked_s), "", remark))
    return out


def loss_chart(story: Story) -> Chart:
    """Training and validation loss over steps, in the workload's metric."""
    train = [(s, done.loss * story.scale) for s, done in story.steps.items()]
    valid = [(s, seen.loss * story.scale) for s, seen in story.validations.items()]
    curves = [*_soft("training", "train", train)]
    curves.append(Curve("validation", "valid", valid))
    curves.append(Curve("", "valid", valid, dots=True))
    unit = story.run.metric if story.run else ""
    return chart("Loss", unit, curves, marks=_marks(story))


def rate_chart(story: Story) -> Chart:
    """Terms per second over steps, from zero."""
    unit = rate_unit(story.run.metric if story.run else "")
    curves = _soft("throughput", "rate", _rates(story))
    return chart("Throughput", unit, curves, marks=_marks(story), floor=0.0, write=short)


def norm_chart(story: Story) -> Chart:
    """The global gradient norm before clipping."""
    points = [(step, done.norm) for step, done in story.steps.items()]
    return chart("Gradient norm", "unclipped", _soft("norm", "norm", points), floor=0.0)


def learning_rate_chart(story: Story) -> Chart:
    """The learning rate of every step."""
    points = [(step, done.lr) for step, done in story.steps.items()]
    curves = [Curve("rate", "lr", points)]
    return chart("Learning rate", "", curves, floor=0.0, write=short)


def _soft(label: str, look: str, points: Points) -> Iterable[Curve]:
    """The curve; a long one as a faint line under its moving mean."""
    if len(points) <= _FEW:
        return [Curve(label, look, points)]
    mean = Curve(label, look, smooth(points), last=points[-1][1])
    return [Curve("", f"{look} faint", points), mean]


def _rates(story: Story) -> Points:
    return [(s, done.count / done.seconds) for s, done in story.steps.items() if done.seconds > 0]


def _marks(story: Story) -> list[tuple[float, str]]:
    """Where an attempt went on from a checkpoint."""
    return [
        (start.resumed_from, f"resumed after {plural(start.resumed_from, 'step')}")
        for start in story.starts
        if start.resumed_from is not None
    ]


def _moment(time_s: float) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"at {time_s} s"
