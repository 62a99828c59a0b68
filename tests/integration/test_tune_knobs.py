"""Knobs switched on a training that goes on: the bits are those of the job without a search."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.load import load
from ithaca.runtime.crew import Crew
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.journal import FILE, Opened, parse
from ithaca.runtime.seat import Seat
from ithaca.tuners.journal import open_journal, read_journal
from ithaca.tuners.loop.knob_space import check_knobs, knob_words, settings_of
from ithaca.tuners.loop.knobs import LiveJob, _all
from ithaca.tuners.loop.record import KNOBS_JOURNAL
from ithaca.tuners.loop.training import TrialTraining
from ithaca.tuners.search import Settings
from ithaca.tuners.space import Space, SpaceError

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

JOB = """
name: knobs
steps: 60
detect: 30s
workload:
  use: lm
  dim: 24
  num_layers: 2
  num_heads: 2
  context: 32
  batch_size: 2
  data: {source: python, max_bytes: 200000}
layout: {micro_batches: 4, pipelines: 1, stages: 2}
memory: {budget: 690KiB, folder: ., limit: 1GiB}
validation: {every: 0}
"""
KNOBS = Space.parse(
    {"layout": {"choice": ["1x2", "2x1"]}, "memory.recompute": {"choice": [True, False]}}
)


def test_below_a_cap_the_state_at_the_end_is_that_of_the_job_alone(
    tmp_path: Path, ray_cluster: Cluster
) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    folder = tmp_path / "run"
    folder.mkdir()
    live = LiveJob(tmp_path / "job.yaml", (), folder)
    settings = Settings(num_trials=4, surrogate="random", maximize=False)
    with Agency(ray_cluster, join_s=120.0) as agency, closing(Seat(30.0)) as seat:
        crew: Crew = agency.hire(2)
        live.use(ray_cluster, agency, crew, seat)
        journal, search = open_journal(folder / KNOBS_JOURNAL, settings, settings_of(KNOBS))
        with journal:
            ended = _all(live, search, journal.write, 60, 4, lambda _: None)
    assert ended.finished
    # Two journals in one folder, each of them whole.
    found, _ = read_journal(folder / KNOBS_JOURNAL)
    assert [trial.reason for trial in found.trials.values()] == [
        stretch.reason for stretch in ended.stretches[:4]
    ]
    entries = [parse(line) for line in (folder / FILE).read_text().splitlines()]
    assert sum(isinstance(entry, Opened) for entry in entries) == len(ended.stretches)
    assert ended.end.step == 60
    failed = [stretch for stretch in ended.stretches if stretch.seconds is None]
    assert [each.setting["layout"] for each in failed] == ["2x1", "2x1"]  # all layers in one worker
    assert all("set memory.budget to more" in each.reason for each in failed)
    tried = {tuple(stretch.setting.items()) for stretch in ended.stretches[:4]}
    assert len(tried) == 4
    firsts = [stretch.first for stretch in ended.stretches]
    lasts = [stretch.last for stretch in ended.stretches]
    assert firsts == [0, *lasts[:-1]]  # no step is done for the search alone
    alone = load(tmp_path / "job.yaml", ["layout.stages=1"])
    training = TrialTraining(0, alone.job, alone.workload_config)
    for _ in range(60):
        training.train()
    assert ended.end.state_hash == training.give().hash()
    assert ended.end.state_hash != combine({})


def test_what_changes_bits_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"optimizer\.lr changes what is trained"):
        check_knobs(Space.parse({"optimizer.lr": {"choice": [1, 2]}}))
    with pytest.raises(SpaceError, match="a knob is a choice"):
        check_knobs(Space.parse({"checkpoint.every": {"int": [1, 2]}}))
    assert knob_words({"layout": "2x3", "memory.budget": "40%"}) == [
        "layout.pipelines=2",
        "layout.stages=3",
        'memory.budget="40%"',
    ]
