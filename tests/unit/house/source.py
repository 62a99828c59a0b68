"""The project's own files, as the guards read them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "src" / "ithaca"
NOT_SOURCE = frozenset({"build", "dist", "runs", "__pycache__"})
GENERATED = frozenset({"control_pb2.py", "control_pb2_grpc.py", "control_pb2.pyi"})


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@dataclass(frozen=True)
class Source:
    """A Python file: ``path`` relative to the project, with its text."""

    path: Path
    text: str

    @property
    def module(self) -> str:
        """The dotted name it is imported by, when it is a part of the package."""
        path = self.path.relative_to("src") if self.path.parts[0] == "src" else self.path
        dotted = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        return dotted if dotted.split(".")[0] == "ithaca" else f"ithaca.{dotted}"

    @property
    def tree(self) -> ast.Module:
        """The file parsed, once; to be read only."""
        return _parsed(self.text)

    def at(self, node: ast.stmt | ast.expr | ast.excepthandler, message: str) -> str:
        """``message`` with the place of ``node`` before it."""
        return f"{self.path}:{node.lineno}: {message}"


@cache
def rooms() -> tuple[str, ...]:
    """The folders at the root that are packages, as ``ithaca.<room>`` is imported from them."""
    return tuple(sorted(path.parent.name for path in ROOT.glob("*/__init__.py")))


def files(*suffixes: str) -> Iterator[Path]:
    """Every file of the project with one of ``suffixes``, relative; links are not followed."""
    todo = [ROOT]
    while todo:
        for path in sorted(todo.pop().iterdir()):
            if path.is_symlink() or path.name.startswith(".") or path.name in NOT_SOURCE:
                continue
            if path.is_dir():
                todo.append(path)
            elif path.suffix in suffixes and path.name not in GENERATED:
                yield path.relative_to(ROOT)


@cache
def python() -> tuple[Source, ...]:
    """Every Python file that is written by hand."""
    return tuple(Source(path, (ROOT / path).read_text()) for path in files(".py"))


def product() -> tuple[Source, ...]:
    """The Python files that are installed: the rooms and the package's own files."""
    tops = {*rooms(), "src"}
    return tuple(source for source in python() if source.path.parts[0] in tops)


def planted(text: str, path: str = "runtime/planted.py") -> Source:
    """A file that does not exist, for showing that a guard would have seen it."""
    return Source(Path(path), text)


def expect_none(problems: Iterable[str]) -> None:
    """Fails with the whole list of ``problems`` unless it is empty."""
    listed = list(problems)
    assert not listed, f"{len(listed)} problems:\n" + "\n".join(listed)
