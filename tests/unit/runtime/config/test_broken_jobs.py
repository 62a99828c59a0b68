"""Broken configurations: each gives one clear message, exit code 2, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ithaca.runtime.cli.main import main
from ithaca.runtime.config.compose import _Composer

GOOD = """\
name: toy
workload:
  use: lm
  dim: 32
  num_layers: 2
  num_heads: 2
  context: 16
  batch_size: 2
  sample: {bytes: 0}
steps: 4
layout:
  pipelines: 2
  stages: 2
  micro_batches: 4
"""


Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Broken:
    """A file or overrides that cannot be used.

    Attributes:
        name: of the case.
        text: the file, or its bytes.
        place: what the message starts with.
        about: words that it must contain.
        overrides: on the command line.
    """

    name: str
    text: str | bytes
    place: str
    about: tuple[str, ...]
    overrides: tuple[str, ...] = ()


def plus(name: str, text: str, position: str, *about: str) -> Broken:
    """The good file with ``text`` behind it; its first new line is 15."""
    return Broken(name, GOOD + text, f"job.yaml:{position}: ", about)


def swap(name: str, old: str, new: str, position: str, *about: str) -> Broken:
    """The good file with ``new`` in place of ``old``."""
    assert GOOD.count(old) == 1
    return Broken(name, GOOD.replace(old, new), f"job.yaml:{position}: ", about)


def given(name: str, override: str, *about: str) -> Broken:
    """The good file with an override."""
    return Broken(name, GOOD, f"override 1: {override!r}: ", about, (override,))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)

DEEP = f"{'[' * 10}%s{']' * 10}"

TYPOS = [
    plus("typo of a section", "optimzer: {lr: 1}\n", "15:1", "optimzer", "'optimizer'"),
    plus(
        "typo of a key", "optimizer:\n  weigth_decay: 1\n", "16:3", "'weight_decay'", "valid here"
    ),
    plus("dash for underscore", "checkpoint: {}\nmicro-batches: 4\n", "16:1", "micro-batches"),
    plus("key of another section", "lr: 1e-3\n", "15:1", "lr: unknown key", "'optimizer.lr'"),
    plus("capital", "Seed: 3\n", "15:1", "Seed", "'seed'"),
    swap("typo of a plug-in's key", "dim: 32", "dims: 32", "4:3", "workload.dims", "'dim'"),
    swap("runtime's key in workload", "dim: 32", "stages: 2", "4:3", "'layout.stages'"),
    swap("typo of a word", "use: lm", "use: lmm", "3:8", "workload.use", "'lm'"),
    plus("typo of a choice", "numerics: exactt\n", "15:11", "exact or fast", "did you mean"),
    plus("typo of a schedule", "optimizer: {schedule: cosin}\n", "15:23", "'cosine'"),
    plus("dotted key", "optimizer.lr: 1\n", "15:1", "'optimizer:' and 'lr:'"),
    plus("key of two lines", '"a\\nb": 1\n', "15:1", "'a\\nb': unknown key"),
    plus("unknown section", "frobnicate:\n  a: 1\n", "15:1", "frobnicate", "unknown key"),
    plus("key with a colon glued", "seed:3\n", "16:1", "not YAML"),
]

UNITS = [
    plus("duration without unit", "detect: 2\n", "15:9", "detect", "unit", "2s"),
    plus("fraction without unit", "detect: 2.5\n", "15:9", "detect", "got 2.5"),
    plus("duration in bytes", "detect: 2GiB\n", "15:9", "detect", "'2GiB'"),
    plus("duration without number", "detect: s\n", "15:9", "detect", "'s'"),
    plus("duration too short", "detect: 1us\n", "15:9", "detect", "10ms to 1h"),
    plus("duration too long", "detect: 2h\n", "15:9", "detect", "10ms to 1h"),
    plus("negative duration", "detect: -2s\n", "15:9", "detect", "got -2s"),
    swap("size without unit", "stages: 2", "stages: 2\n  memory: 8", "14:11", "memory", "8GiB"),
    swap("size in GIB", "stages: 2", "stages: 2\n  memory: 8GIB", "14:11", "ends in one of"),
    swap("size per second", "stages: 2", "stages: 2\n  memory: 8GB/s", "14:11", "'8GB/s'"),
    swap("size of nothing", "stages: 2", "stages: 2\n  memory: 0GiB", "14:11", "at least 1B"),
    swap("negative size", "stages: 2", "stages: 2\n  memory: -1GiB", "14:11", "'-1GiB'"),
    swap("endless size", "stages: 2", "stages: 2\n  memory: 1e999GiB", "14:11", "memory"),
    plus("number with a unit", "optimizer: {warmup: 2s}\n", "15:21", "warmup", "no unit"),
]

TYPES = [
    swap("text for a number", "steps: 4", "steps: many", "10:8", "steps", "'many'"),
    swap("quoted number", "steps: 4", "steps: '4'", "10:8", "steps", "without quotes"),
    swap("fraction for a whole number", "steps: 4", "steps: 4.5", "10:8", "steps", "4.5"),
    swap("whole number as fraction", "steps: 4", "steps: 1e3", "10:8", "write 1000"),
    swap("underscored number", "steps: 4", "steps: 1_000", "10:8", "write 1000"),
    swap("true for a number", "steps: 4", "steps: true", "10:8", "steps", "got true"),
    swap("list for a number", "steps: 4", "steps: [4]", "10:8", "steps", "the list [4]"),
    swap("section for a number", "steps: 4", "steps: {a: 4}", "10:8", "steps", "section with a"),
    swap("nothing for a number", "steps: 4", "steps:", "10:7", "steps", "nothing"),
    swap("zero steps", "steps: 4", "steps: 0", "10:8", "steps", "from 1 to"),
    swap("negative steps", "steps: 4", "steps: -4", "10:8", "steps", "got -4"),
    swap("leading zero", "steps: 4", "steps: 010", "10:8", "010", "zero"),
    swap("number for a name", "name: toy", "name: 7", "1:7", "name", "quotes"),
    swap("name with a slash", "name: toy", "name: ../toy", "1:7", "name", "'../toy'"),
    swap("name too long", "name: toy", f"name: {'x' * 65}", "1:7", "name", "1 to 64"),
    swap("empty name", "name: toy", "name: ''", "1:7", "name", "got ''"),
    plus("yes for true", "control: {expose: yes}\n", "15:19", "expose", "write true"),
    plus("one for true", "control: {expose: 1}\n", "15:19", "expose", "true or false"),
    plus("word for a section", "optimizer: adam\n", "15:12", "optimizer", "'adam'"),
    plus("list for a section", "optimizer: [lr, 1]\n", "15:12", "optimizer", "the list"),
    plus("empty section", "checkpoint:\n", "15:12", "checkpoint", "remove the line"),
    plus("list too short", "optimizer: {betas: [0.9]}\n", "15:20", "betas", "2 numbers"),
    plus("list too long", "optimizer: {betas: [0.9, 0.9, 0.9]}\n", "15:20", "betas", "2 numbers"),
    plus("entry of a list", "optimizer: {betas: [0.9, x]}\n", "15:26", "betas[1]", "'x'"),
    plus("beta of one", "optimizer: {betas: [0.9, 1]}\n", "15:20", "betas", "below 1"),
    plus("negative rate", "optimizer: {lr: -1e-3}\n", "15:17", "lr", "above 0", "-0.001"),
    plus("more than all", "recovery: {min_workers: 5}\n", "15:25", "min_workers", "4 workers"),
    plus("no strategy", "recovery: {strategy: pray}\n", "15:22", "strategy", "reroute"),
    plus("short quarantine", "recovery: {quarantine: 1ms}\n", "15:24", "1s to 30d"),
    plus("warm-up longer than the job", "optimizer: {warmup: 9}\n", "15:21", "warmup", "4 steps"),
    plus("port too large", "control: {port: 70000}\n", "15:17", "port", "65535"),
    plus("open to the world", "control: {bind: 0.0.0.0}\n", "15:17", "bind", "expose"),
    plus("folder that is no path", 'folder: ""\n', "15:9", "folder", "null"),
    plus("address without port", "cluster: {address: head}\n", "15:20", "address", "host:port"),
    swap("plug-in's option", "dim: 32", "dim: sixty", "4:8", "workload.dim", "'sixty'"),
    swap("plug-in's options together", "num_heads: 2", "num_heads: 3", "2:1", "workload", "heads"),
    swap("entry of a plug-in's section", "{bytes: 0}", "{bytes: -1}", "9:19", "sample.bytes"),
    swap("plug-in's missing data", "  dim", "  data: {folder: /none/here}\n  dim", "2:1", "/none"),
    swap("name missing", "name: toy\n", "", "1:1", "name: is missing"),
    swap("steps missing", "steps: 4\n", "", "1:1", "steps: is missing", "whole number"),
    swap("use missing", "  use: lm\n", "", "2:1", "workload.use: is missing"),
]

LAYOUTS = [
    swap("no pipelines", "pipelines: 2", "pipelines: 0", "12:14", "pipelines", "got 0"),
    swap("more pipelines than work", "pipelines: 2", "pipelines: 5", "12:14", "5", "4 micro"),
    swap("stages per pipeline", "stages: 2", "stages: [2]", "13:11", "1 pipelines", "says 2"),
    swap("stage of nothing", "stages: 2", "stages: [2, 0]", "13:15", "stages[1]", "got 0"),
    swap("more stages than layers", "stages: 2", "stages: 5", "13:11", "5 stages", "has 4"),
    swap("half auto", "stages: 2", "stages: auto", "13:11", "stages", "auto"),
    swap("no number of workers", "pipelines: 2\n  stages: 2\n", "", "1:1", "cluster.workers"),
    plus("workers do not match", "cluster: {workers: 3}\n", "15:20", "is 3", "4 stages"),
    plus("no workers", "cluster: {workers: 0}\n", "15:20", "workers", "got 0"),
    swap("split of one pipeline", "stages: 2", "stages: 2\n  split: [[2, 2]]", "14:10", "split"),
    swap(
        "split with a stage too many",
        "stages: 2",
        "stages: 2\n  split: [[2, 2], [1, 1, 2]]",
        "14:19",
        "split[1]",
        "3 stages",
    ),
    swap(
        "split that differs",
        "stages: 2",
        "stages: 2\n  split: [[2, 2], [2, 3]]",
        "14:19",
        "split[1]",
        "5 layers",
    ),
    swap(
        "split of other layers",
        "stages: 2",
        "stages: 2\n  split: [[2, 3], [2, 3]]",
        "14:11",
        "split[0]",
        "has 4",
    ),
    swap(
        "split with a word",
        "stages: 2",
        "stages: 2\n  split: [[2, x], [2, 2]]",
        "14:15",
        "split[0][1]",
        "'x'",
    ),
    swap(
        "too little memory",
        "layout:\n  pipelines: 2\n  stages: 2\n",
        "cluster:\n  workers: 2\nlayout:\n  memory: 1KiB\n",
        "14:11",
        "layout.memory",
        "give ",
    ),
]

SIZES = [
    swap("workers without end", "stages: 2", "stages: 60000", "12:14", "pipelines", "65536"),
    swap("stages without end", "stages: 2", "stages: 99999999999", "13:11", "stages"),
    swap("huge number", "steps: 4", f"steps: 1{'0' * 30}", "10:8", "2^63"),
    swap("endless number", "steps: 4", f"steps: {'9' * 5000}", "10:8", "too large"),
    swap("infinity", "steps: 4", "steps: .inf", "10:8", "finite"),
    plus("not a number", "optimizer: {lr: .nan}\n", "15:17", "finite"),
    plus("beyond doubles", "optimizer: {lr: 1e999}\n", "15:17", "1.8e308"),
    swap("model beyond memory", "dim: 32", "dim: 65536", "2:1", "workload", "of memory"),
    swap("seed below zero", "steps: 4", "steps: 4\nseed: -1", "11:7", "seed", "got -1"),
    plus("bomb of aliases", BOMB, "18:45", "10000"),
    plus("deep nesting", f"a: {'[' * 50}{']' * 50}\n", "15:23", "nested"),
    plus(
        "nesting by aliases",
        "a: &a [[[[[[[[[[1]]]]]]]]]]\nb: [[[[[[[[[[*a]]]]]]]]]]\n",
        "16:14",
        "*a",
    ),
    Broken("huge file", GOOD + "#" * 2**20, "job.yaml: ", ("1 MiB",)),
    plus("many values", f"a: [{'1,' * 11000}]\n", "15:19943", "10000"),
]

YAML = [
    plus("key twice", "steps: 5\n", "15:1", "steps: given twice", "10:1"),
    plus("section twice", "layout: {stages: 3}\n", "15:1", "layout: given twice", "11:1"),
    swap("inner key twice", "stages: 2", "stages: 2\n  stages: 3", "14:3", "stages", "13:3"),
    plus("python tag", "seed: !!python/object/apply:os.system [ls]\n", "15:7", "!!python/object"),
    plus("type tag", "seed: !!int '3'\n", "15:7", "!!int"),
    plus("own tag", "seed: !mine 3\n", "15:7", "'!mine'"),
    plus("tag without handle", "seed: !x!y 3\n", "15:7", "tags"),
    plus("alias without anchor", "seed: *none\n", "15:7", "*none"),
    plus("alias of itself", "seed: &a [*a]\n", "15:11", "*a"),
    plus("merge key", "optimizer: {<<: {lr: 1}}\n", "15:13", "<<"),
    plus("list as key", "? [a, b]\n: 1\n", "15:3", "key"),
    plus("tab", "optimizer:\n\tlr: 1\n", "16:1", "tab"),
    plus("open bracket", "seed: [1, 2\n", "16:1", "not YAML"),
    plus("open quote", "seed: 'abc\n", "16:1", "not YAML"),
    plus("wrong indentation", " seed: 3\n", "15:2", "not YAML"),
    plus("faults not allowed", "faults: [crash w1 at step 2]\n", "15:9", "set drills: true"),
    plus("no fault", "drills: true\nfaults:\n- crush w1 at step 2\n", "17:3", "'crash'"),
    plus("late", "drills: true\nfaults: [crash w1 at step 9]\n", "16:10", "has 4 steps"),
    plus("two colons", "seed: a: 3\n", "15:8", "not YAML"),
    plus("two documents", "---\nname: b\n", "15:1", "second document"),
    plus("bell", 'folder: "\a"\n', "15:10", "U+0007"),
    plus("surrogate", 'folder: "\\ud800"\n', "15:9", "surrogate"),
    plus("escape beyond Unicode", 'folder: "\\UFFFFFFFF"\n', "15:12", "FFFF"),
    Broken("empty file", "", "job.yaml: ", ("is empty",)),
    Broken("only comments", "# nothing\n", "job.yaml: ", ("is empty",)),
    Broken("only a dash", "---\n", "job.yaml: ", ("is empty",)),
    Broken("a list", "- a\n- b\n", "job.yaml:1:1: ", ("key: value",)),
    Broken("a word", "hello\n", "job.yaml:1:1: ", ("key: value",)),
    Broken("latin-1", GOOD.encode() + "# ü\n".encode("latin-1"), "job.yaml:15:3: ", ("UTF-8",)),
    Broken("utf-16", GOOD.encode("utf-16"), "job.yaml:1:1: ", ("UTF-8",)),
    Broken("binary", bytes(range(256)), "job.yaml:", ("UTF-8",)),
]

OVERRIDES = [
    given("override of nothing", "optmizer.lr=1", "'optimizer'"),
    given("override of a typo", "optimizer.lrr=1", "optimizer.lrr", "'lr'"),
    given("override without value", "steps=", "steps=VALUE"),
    given("override without equals", "steps", "section.key=value"),
    given("override without key", "=3", "key"),
    given("override with a bad key", "a..b=3", "'a..b'"),
    given("override below a value", "steps.x=3", "'steps'"),
    given("override of a wrong type", "steps=few", "steps", "'few'"),
    given("override with bad YAML", "steps=[", "not YAML"),
    given("override with a tag", "steps=!!int 3", "!!int"),
    given("override of a duration", "detect=2", "detect", "unit"),
    given("override of the workload", "workload.dim=sixty", "workload.dim", "'sixty'"),
    given("override of a layout", "layout.stages=5", "layout.stages", "has 4"),
    given("override with a key twice", "optimizer={lr: 1, lr: 2}", "given twice"),
]

CASES = [*TYPOS, *UNITS, *TYPES, *LAYOUTS, *SIZES, *YAML, *OVERRIDES]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Everything in ``folder``."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()} | {
        str(p): b"folder" for p in sorted(folder.rglob("*")) if p.is_dir()
    }


def check_refused(case: Broken, command: str, capsys: Capture) -> None:
    """The oracle: ``case`` is refused as it should be, in the current folder."""
    raw = case.text if isinstance(case.text, bytes) else case.text.encode()
    Path("job.yaml").write_bytes(raw)
    before = snapshot(Path())
    code = main([command, "job.yaml", *case.overrides])
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert snapshot(Path()) == before
    lines = err.splitlines()
    assert lines[0] == "ithaca: cannot use job.yaml"
    assert lines[-1].startswith("Nothing was started or written. Correct this and try again.")
    assert len(lines) == 3, err
    assert lines[1].startswith(case.place), err
    for words in case.about:
        assert words in lines[1], err
    assert len(lines[1]) < 500
    for jargon in ("Traceback", "pydantic", "https://", "Input should", "ValueError", "NoneType"):
        assert jargon not in err


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_each_mistake_gives_one_message(case: Broken, capsys: Capture) -> None:
    check_refused(case, "check", capsys)


@pytest.mark.parametrize("case", CASES[::6], ids=lambda case: case.name.replace(" ", "-"))
def test_run_refuses_what_check_refuses(case: Broken, capsys: Capture) -> None:
    check_refused(case, "run", capsys)


def test_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


def test_the_good_file_is_good(capsys: Capture) -> None:
    Path("job.yaml").write_text(GOOD)
    assert main(["check", "job.yaml"]) == 0
    assert "is a valid job" in capsys.readouterr().out
    assert [p.name for p in Path().iterdir()] == ["job.yaml"]


def test_the_oracle_sees_a_duplicate_that_slips_through(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(_Composer, "duplicate", staticmethod(lambda pairs, name: None))
    case = next(case for case in CASES if case.name == "key twice")
    with pytest.raises(AssertionError):
        check_refused(case, "check", capsys)


def test_all_mistakes_are_told_at_once_in_order(capsys: Capture) -> None:
    text = GOOD.replace("steps: 4", "steps: x").replace("stages: 2", "stagse: 2")
    Path("job.yaml").write_text(text + "steps: 3\ndetect: 2\n")
    assert main(["check", "job.yaml", "optimizer.lr=a"]) == 2
    lines = capsys.readouterr().err.splitlines()
    starts = ["job.yaml:10:8", "job.yaml:13:3", "job.yaml:15:1", "job.yaml:16:9", "override 1"]
    assert [line.split(": ")[0] for line in lines[1:-1]] == starts
    assert "Correct these 5" in lines[-1]


def test_more_than_twenty_mistakes_are_counted(capsys: Capture) -> None:
    Path("job.yaml").write_text(GOOD + "".join(f"key{i}: 1\n" for i in range(30)))
    assert main(["check", "job.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 23
    assert lines[-2] == "... and 10 more"


@pytest.mark.parametrize(
    ("path", "about"),
    [
        ("none.yaml", "there is no such file"),
        ("jobb.yaml", "did you mean job.yaml?"),
        ("no/such/folder/job.yaml", "there is no folder no/such/folder"),
        (".", "is a folder"),
        ("job.yaml/x", "cannot be read"),
        ("/dev/null", "not a regular file"),
        ("x\0y", "cannot be read"),
        ("x" * 5000, "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(path: str, about: str, capsys: Capture) -> None:
    Path("job.yaml").write_text(GOOD)
    assert main(["check", path]) == 2
    err = capsys.readouterr().err
    assert about in err
    assert len(err.splitlines()) == 3


def test_a_file_without_permission(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def refuse(self: Path, mode: str = "r") -> None:
        raise PermissionError(13, "Permission denied", str(self))

    Path("job.yaml").write_text(GOOD)
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    assert main(["check", "job.yaml"]) == 2
    assert "job.yaml: cannot be read: Permission denied" in capsys.readouterr().err
