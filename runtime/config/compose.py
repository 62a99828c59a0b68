"""YAML events to a tree of nodes, within limits, gathering every mistake on the way.

What YAML allows and a job does not: explicit tags, merge keys, duplicate keys, keys that are not
text, numbers without a finite value, several documents. Anchors and aliases are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import yaml
from yaml.reader import ReaderError

from ithaca.runtime.config.errors import Problem
from ithaca.runtime.config.provenance import Position, printable
from ithaca.runtime.config.scalar import Scalar, resolve

MAX_VALUES = 10_000
"""Keys, values and list entries, aliases expanded."""
MAX_DEPTH = 20
"""Sections in sections, or lists in lists."""

Value = Scalar | list["Node"] | dict[str, tuple[Position, "Node"]]


@dataclass(slots=True)
class Node:
    """A value with its place.

    ``size`` counts all values in it, a thousand characters of text as one; ``height`` its levels.
    """

    value: Value
    mark: Position
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class _Frame:
    """An open mapping or list; ``name`` is the key that waits for its value."""

    node: Node
    anchor: str | None
    name: str | None = None
    name_mark: Position | None = None
    skip: bool = False


class _Mark(Protocol):
    """A place as PyYAML has it, from 0."""

    line: int
    column: int


class _GiveUpError(Exception):
    """The rest of the text cannot be read; the problem is noted already."""


@dataclass(slots=True)
class _Composer:
    problems: list[Problem] = field(default_factory=list)
    root: Node | None = None
    documents: int = 0
    count: int = 0
    frames: list[_Frame] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)

    def note(self, mark: Position, text: str) -> None:
        self.problems.append(Problem(mark, text))

    def stop(self, mark: Position, text: str) -> _GiveUpError:
        self.note(mark, text)
        return _GiveUpError()

    def take(self, event: yaml.Event) -> None:
        mark = _position(event.start_mark)
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise self.stop(mark, "a second document starts; a file holds one job")
            case yaml.AliasEvent():
                self._alias(event.anchor, mark)
            case yaml.ScalarEvent():
                self._scalar(event, mark)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event, mark)
            case yaml.CollectionEndEvent():
                self._close()

    def _open(self, event: yaml.CollectionStartEvent, mark: Position) -> None:
        self._refuse_tag(event.tag, mark)
        if len(self.frames) >= MAX_DEPTH:
            raise self.stop(mark, f"nested more than {MAX_DEPTH} deep; a job needs 3 levels")
        value: Value = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.frames.append(_Frame(Node(value, mark), event.anchor))

    def _close(self) -> None:
        frame = self.frames.pop()
        if frame.anchor:
            self.anchors[frame.anchor] = frame.node
        self._add(frame.node, None)

    def _scalar(self, event: yaml.ScalarEvent, mark: Position) -> None:
        self._refuse_tag(event.tag, mark)
        if self._expects_key:
            self._add(Node(event.value, mark), event)
            return
        value, wrong = resolve(event.value, plain=event.style is None)
        if wrong:
            self.note(mark, wrong)
        node = Node(value, mark, size=1 + len(event.value) // 1000)
        if event.anchor:
            self.anchors[event.anchor] = node
        self._add(node, event)

    def _alias(self, name: str | None, mark: Position) -> None:
        if any(frame.anchor == name for frame in self.frames):
            raise self.stop(mark, f"*{name} stands inside what it stands for: it would never end")
        if name is None or name not in self.anchors:
            raise self.stop(mark, f"*{name} has no anchor &{name} above it")
        target = self.anchors[name]
        if len(self.frames) + target.height > MAX_DEPTH:
            raise self.stop(mark, f"*{name} makes the file nested more than {MAX_DEPTH} deep")
        self.count += target.size - 1
        self._add(Node(target.value, mark, target.size, target.height), None)

    @property
    def _expects_key(self) -> bool:
        frame = self.frames[-1] if self.frames else None
        return frame is not None and isinstance(frame.node.value, dict) and frame.name_mark is None

    def _add(self, node: Node, scalar: yaml.ScalarEvent | None) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise self.stop(node.mark, f"more than {MAX_VALUES} values, anchors expanded")
        if not self.frames:
            self.root = node
            return
        frame = self.frames[-1]
        if self._expects_key:
            self._key(frame, node, scalar)
            return
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
        elif isinstance(frame.node.value, dict) and frame.name_mark is not None:
            if frame.name is not None:
                frame.node.value[frame.name] = (frame.name_mark, node)
            frame.name = frame.name_mark = None
        frame.node.size += node.size
        frame.node.height = max(frame.node.height, node.height + 1)

    def _key(self, frame: _Frame, node: Node, scalar: yaml.ScalarEvent | None) -> None:
        """Notes the key that the next node belongs to; a key that is wrong drops that node."""
        frame.name_mark = node.mark
        name = scalar.value if scalar else None
        assert isinstance(frame.node.value, dict)
        first = self.duplicate(frame.node.value, name)
        if scalar is None or name is None:
            self.note(node.mark, "a key is plain text, not a list, a section or an alias")
        elif name == "<<" and scalar.style is None:
            self.note(node.mark, "<<: merging sections is not supported; write the keys out")
        elif wrong := resolve(scalar.value, plain=False)[1]:
            self.note(node.mark, wrong)
        elif first is not None:
            self.note(
                node.mark, f"{printable(name)}: given twice, first at {first}; keep one of the two"
            )
        else:
            frame.name = name

    @staticmethod
    def duplicate(pairs: dict[str, tuple[Position, Node]], name: str | None) -> Position | None:
        """Where ``name`` was given before, if it was."""
        return pairs[name][0] if name in pairs else None

    def _refuse_tag(self, tag: str | None, mark: Position) -> None:
        if tag is not None:
            shown = printable(tag.replace("tag:yaml.org,2002:", "!!"))
            self.note(mark, f"the tag '{shown}' is not allowed: a job is plain data; remove it")


def compose(text: str) -> tuple[Node | None, list[Problem]]:
    """The tree of ``text`` and what is wrong in it; no tree when it cannot be read to its end."""
    composer = _Composer()
    try:
        for event in _events(text, composer):
            composer.take(event)
    except _GiveUpError:
        return None, composer.problems
    return composer.root, composer.problems


def _events(text: str, composer: _Composer) -> Iterator[yaml.Event]:
    try:
        loader = yaml.SafeLoader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        what = f"the character U+{code:04X} is not allowed in a text file; remove it"
        raise composer.stop(Position(line, column), what) from None
    try:
        while loader.check_event():
            yield loader.get_event()  # type: ignore[no-untyped-call]
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark or loader.get_mark()
        raise composer.stop(_position(at), _plain(error)) from None
    except (ValueError, OverflowError):
        what = "a number here is outside what YAML allows, such as an escape above \\U0010FFFF"
        raise composer.stop(_position(loader.get_mark()), what) from None
    finally:
        loader.dispose()


def _position(mark: _Mark | None) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)


def _plain(error: yaml.MarkedYAMLError) -> str:
    """The parser's complaint in words that help."""
    problem = error.problem or error.context or "this is not YAML"
    if "'\\t'" in problem:
        return "a tab stands here; YAML is indented with spaces"
    if "mapping values are not allowed" in problem or "found '<block mapping start>'" in problem:
        return "not YAML: a second ':' in the line, or wrong indentation; put text with ': ' in ''"
    if "could not find expected ':'" in problem:
        return "not YAML: expected 'key: value'; a ':' with a space behind it is missing"
    if "found undefined tag handle" in problem:
        return f"tags are not allowed: a job is plain data ({problem})"
    where = f" ({error.context})" if error.context else ""
    return f"not YAML: {problem}{where}"
