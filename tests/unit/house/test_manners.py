"""What code keeps from doing: reading the environment, swallowing errors, staying unfinished."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.house.source import ROOT, Source, expect_none, files, planted, product, python

ENVIRONMENT = frozenset({"environ", "environb", "getenv", "putenv", "unsetenv"})
READS_ENVIRONMENT = Path("runtime/environment.py")
PRINTERS = (
    "runtime/cli/",
    "runtime/progress",
    "runtime/script/",
    "runtime/control/generate.py",
    "benchmarks/",
)
WIDE = frozenset({"Exception", "BaseException"})

LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
# Folders of one machine, and folders beside the project.
ELSEWHERE = re.compile(r"(?<![\w.])/(root/|home/(?!me\b)|work/|opt/|mnt/|[t]mp/\w)|\.\./shared\b")
SKIPS = re.compile(r"\b(mark\.(skip|skipif|xfail)|pytest\.(skip|xfail))\b")
TEXT = (".py", ".pyi", ".cpp", ".h", ".md", ".yaml", ".toml", ".txt", ".proto", ".html", "")


def environment_readers(source: Source) -> list[str]:
    """Uses of the process's environment variables outside the one module that is for them."""
    if source.path == READS_ENVIRONMENT:
        return []
    problems = []
    for node in ast.walk(source.tree):
        named = (
            isinstance(node, ast.Attribute)
            and node.attr in ENVIRONMENT
            and ast.unparse(node.value) == "os"
        )
        imported = (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and any(alias.name in ENVIRONMENT for alias in node.names)
        )
        if isinstance(node, ast.stmt | ast.expr) and (named or imported):
            problems.append(source.at(node, f"environment variables belong to {READS_ENVIRONMENT}"))
    return problems


def printers(source: Source) -> list[str]:
    """Calls of ``print`` by what has no business with the screen, unless run as a program."""
    if str(source.path).startswith(PRINTERS):
        return []
    program = {
        part
        for node in source.tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for part in ast.walk(node)
    }
    return [
        source.at(node, "print: return it, raise it or make it an event")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and node not in program
    ]


def names(node: ast.expr | None) -> set[str]:
    """The names in an expression of exception classes."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} if node else set()


def uses_error(handler: ast.ExceptHandler) -> bool:
    """Whether the handler raises, reads the error it caught, or logs it with its traceback."""
    for part in ast.walk(ast.Module(body=handler.body, type_ignores=[])):
        if isinstance(part, ast.Raise):
            return True
        if isinstance(part, ast.Name) and handler.name and part.id == handler.name:
            return True
        if isinstance(part, ast.Attribute) and part.attr in (
            "exception",
            "print_exc",
            "format_exc",
        ):
            return True
    return False


def swallowers(source: Source) -> list[str]:
    """Handlers that catch everything, or all errors, and then forget them."""
    problems = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                problems.append(source.at(node, "except: name what is caught"))
            elif names(node.type) & WIDE and not uses_error(node):
                problems.append(source.at(node, "all errors are caught and forgotten"))
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("suppress")
            and any(names(argument) & WIDE for argument in node.args)
        ):
            problems.append(source.at(node, "all errors are suppressed"))
    return problems


def unfinished(source: Source) -> list[str]:
    """Functions that only say that they are not written."""
    return [
        source.at(node, "not written yet")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node)
    ]


def matches(pattern: re.Pattern[str], path: Path, text: str) -> list[str]:
    """Lines of ``text`` in which ``pattern`` is found."""
    return [
        f"{path}:{number}: {found.group()!r}"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := pattern.search(line))
    ]


CHECKS = (environment_readers, printers, swallowers, unfinished)


@pytest.mark.parametrize("check", CHECKS)
def test_product_code_has_manners(check: Callable[[Source], list[str]]) -> None:
    expect_none(problem for source in product() for problem in check(source))


def test_nothing_swallows_errors_in_tests_either() -> None:
    expect_none(problem for source in python() for problem in swallowers(source))


@pytest.mark.parametrize("pattern", [LEFTOVER, ELSEWHERE])
def test_texts_are_finished_and_at_home_everywhere(pattern: re.Pattern[str]) -> None:
    texts = [(path, (ROOT / path).read_text()) for path in files(*TEXT)]
    expect_none(line for path, text in texts for line in matches(pattern, path, text))


def test_no_test_is_skipped() -> None:
    tests = [source for source in python() if source.path.parts[0] == "tests"]
    here = Path(__file__).name
    expect_none(
        line
        for source in tests
        if source.path.name != here
        for line in matches(SKIPS, source.path, source.text)
    )


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (environment_readers, "import os\nx = os.environ['A']"),
        (environment_readers, "import os\nx = os.getenv('A')"),
        (environment_readers, "from os import environ"),
        (printers, "print('x')"),
        (swallowers, "try:\n    f()\nexcept:\n    raise"),
        (swallowers, "try:\n    f()\nexcept Exception:\n    pass"),
        (swallowers, "try:\n    f()\nexcept (OSError, Exception):\n    x = None"),
        (swallowers, "try:\n    f()\nexcept BaseException as error:\n    x = None"),
        (swallowers, "with contextlib.suppress(Exception):\n    f()"),
        (unfinished, "def f():\n    raise NotImplementedError"),
        (unfinished, "def f():\n    raise NotImplementedError('later')"),
    ],
)
def test_bad_manners_are_noticed(check: Callable[[Source], list[str]], text: str) -> None:
    assert len(check(planted(text, "planner/planted.py"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept Exception as error:\n    tell(error)",
        "try:\n    f()\nexcept Exception:\n    close()\n    raise",
        "try:\n    f()\nexcept OSError:\n    pass",
        "if __name__ == '__main__':\n    print('x')",
    ],
)
def test_good_manners_are_let_pass(text: str) -> None:
    assert [problem for check in CHECKS for problem in check(planted(text))] == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (LEFTOVER, "# TO" + "DO: later"),
        (ELSEWHERE, "open('/ro" + "ot/x')"),
        (ELSEWHERE, "cache = '/t" + "mp/cache'"),
        (ELSEWHERE, "../sha" + "red/data"),
        (SKIPS, "@pytest.mark.skip"),
    ],
)
def test_forbidden_words_are_noticed(pattern: re.Pattern[str], line: str) -> None:
    assert len(matches(pattern, Path("planted.py"), line)) == 1
