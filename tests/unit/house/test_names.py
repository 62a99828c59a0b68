"""Every public name says what it is: a docstring, and types for all that goes in and out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.unit.house.source import Source, expect_none, planted, product

Function = ast.FunctionDef | ast.AsyncFunctionDef
Named = ast.ClassDef | Function


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Named]]:
    """The public classes and functions of a module, and those of its public classes."""
    for node in body:
        if not isinstance(node, Named) or node.name.startswith("_"):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public(node.body, f"{prefix}{node.name}.")


def is_overload(node: Named) -> bool:
    """Whether it is one of several signatures of a function that is explained once."""
    return any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)


def unexplained(source: Source) -> list[str]:
    """The module, or its public names, that have no docstring."""
    problems = [] if ast.get_docstring(source.tree) else [f"{source.path}:1: no docstring"]
    return problems + [
        source.at(node, f"{name} has no docstring")
        for name, node in public(source.tree.body)
        if not ast.get_docstring(node) and not is_overload(node)
    ]


def untyped(source: Source) -> list[str]:
    """The parameters and results of all functions, public or not, that have no type."""
    problems = []
    for node in ast.walk(source.tree):
        if not isinstance(node, Function):
            continue
        if node.returns is None:
            problems.append(source.at(node, f"{node.name} does not say what it returns"))
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
        problems += [
            source.at(node, f"{node.name}: {argument.arg} has no type")
            for argument in every
            if argument.annotation is None and argument.arg not in ("self", "cls")
        ]
    return problems


def test_every_public_name_has_a_docstring() -> None:
    expect_none(problem for source in product() for problem in unexplained(source))


def test_everything_is_typed() -> None:
    expect_none(problem for source in product() for problem in untyped(source))


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"""M."""\ndef f() -> None: ...',
        '"""M."""\nasync def f() -> None: ...',
        '"""M."""\nclass A:\n    pass',
        '"""M."""\nclass A:\n    """A."""\n    def m(self) -> None: ...',
        '"""M."""\nclass A:\n    """A."""\n    @property\n    def p(self) -> int: ...',
    ],
)
def test_a_missing_docstring_is_noticed(text: str) -> None:
    assert len(unexplained(planted(text))) == 1


def test_private_names_may_go_without() -> None:
    text = '"""M."""\ndef _f() -> None: ...\nclass _A:\n    def m(self) -> None: ...'
    assert unexplained(planted(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f(): ...",
        "def _f(x) -> None: ...",
        "def f(*, x) -> None: ...",
        "def f(*x) -> None: ...",
        "class A:\n    def __init__(self, x: int): ...",
    ],
)
def test_a_missing_type_is_noticed(text: str) -> None:
    assert len(untyped(planted(text))) == 1
