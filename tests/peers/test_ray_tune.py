"""Ray Tune with our search: a driver that is killed goes on with the whole state of the search.

Runs in the environment of ``make peers``, which has what Ray Tune needs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

SCRIPT = """
import json, sys, time
from pathlib import Path
import ray
from ray import tune
from ithaca.tuners.ray_tune import BOASFSearch

folder = Path(sys.argv[1])

def train(config):
    time.sleep(0.3)
    tune.report({"loss": (config["x"] - 1) ** 2})

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
where = str(folder / "search")
if tune.Tuner.can_restore(where):
    tuner = tune.Tuner.restore(where, train, resume_unfinished=True, restart_errored=True)
else:
    searcher = BOASFSearch({"x": {"float": [-5, 5]}}, num_trials=24, metric="loss", mode="min")
    tuner = tune.Tuner(train, tune_config=tune.TuneConfig(
        search_alg=searcher, num_samples=24, max_concurrent_trials=2, metric="loss", mode="min"),
        run_config=tune.RunConfig(name="search", storage_path=str(folder), verbose=0))
results = tuner.fit()
searcher = tuner._local_tuner._tune_config.search_alg
print("RESULT", json.dumps([len(results), results.get_best_result().metrics["loss"]]))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """The script, in a session of its own."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "TUNE_GLOBAL_CHECKPOINT_S": "0"},
    )


def saved(folder: Path) -> dict[str, Any]:
    """The newest state that Tune saved of the searcher; empty if there is none that is whole.

    Tune copies these files from where it made them, so one may be half there.
    """
    found = sorted(folder.glob("search/searcher-state-*.pkl"), key=lambda p: p.stat().st_mtime)
    for path in reversed(found):
        text = path.read_text()
        if text.endswith("}"):
            return dict(json.loads(text))
    return {}


def test_a_killed_driver_goes_on_with_all_that_the_search_knew(tmp_path: Path) -> None:
    first = start(tmp_path)
    deadline = time.monotonic() + 240
    known: dict[str, Any] = {}
    while time.monotonic() < deadline and first.poll() is None:
        state = saved(tmp_path)
        if state and state["search"] and len(state["search"]["trials"]) >= 8:
            known = state
            break
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    output, _ = first.communicate(timeout=60)
    assert known, output
    second = start(tmp_path)
    output, _ = second.communicate(timeout=240)
    assert second.returncode == 0, output
    end = saved(tmp_path)["search"]["trials"]
    count = len(known["search"]["trials"])
    assert [t["config"] for t in end[:count]] == [t["config"] for t in known["search"]["trials"]]
    assert len(end) == 24
    assert min(t["curve"][-1][1] for t in end if t["curve"]) < 1.0
