"""An unmodified script with the Trainer of Hugging Face, under 40 % of its activations.

Runs in the environment of ``make peers``, which has transformers.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1200)  # the library alone takes half a minute to import

SCRIPT = Path(__file__).with_name("trainer_script.py")
PROGRAM = """
import sys
from ithaca.swap import allocator, run
code = run.main(sys.argv[1:])
print("peak", allocator.usage().peak)
sys.exit(code)
"""


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The script, under our program if there are words."""
    command = ["-c", PROGRAM, *words] if words else []
    return subprocess.run(
        [sys.executable, *command, str(SCRIPT), str(folder / "out"), "--accumulate", "2"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )


def weights(done: subprocess.CompletedProcess[str]) -> tuple[str, int]:
    """Hash and bytes of the weights."""
    assert done.returncode == 0, done.stderr
    found = re.search(r"weights (\w+) parameters (\d+)", done.stdout)
    assert found is not None
    return found[1], int(found[2])


def test_an_unmodified_script_trains_under_40_percent_to_the_same_bits(tmp_path: Path) -> None:
    plain, held = weights(run(folder=tmp_path))
    free = run("--budget", "8GiB", folder=tmp_path)
    peak = int(re.findall(r"peak (\d+)\n", free.stdout)[-1])
    fixed = 4 * held  # weights, gradients, two moments
    budget = fixed + int(0.4 * (peak - fixed))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    disk = ("--folder", str(scratch), "--limit", "1GiB")
    for options in (disk, ()):
        done = run("--budget", str(budget), *options, folder=tmp_path)
        assert weights(done) == (plain, held)
        assert weights(free) == (plain, held)
        assert int(re.findall(r"peak (\d+)\n", done.stdout)[-1]) <= budget
        assert list(scratch.iterdir()) == []


def test_a_budget_that_cannot_do_is_refused_with_a_number(tmp_path: Path) -> None:
    done = run("--budget", "1MiB", folder=tmp_path)
    assert done.returncode == 2
    assert "bytes" in done.stderr
    assert "Traceback" not in done.stderr
