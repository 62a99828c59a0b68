"""Reads a report as a browser would, and says what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from html.parser import HTMLParser
from typing import Any

from ithaca.runtime.events import Event

_VOID = {"meta", "link", "br", "hr", "img", "input"}
_OUTSIDE = re.compile(r"url\(|@import|https?:|//[a-z]", re.IGNORECASE)


class Page(HTMLParser):
    """The text of a page, and its faults: unclosed elements, scripts, anything from outside."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.tags: list[str] = []
        self.paths: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self._ids = 0
        self.feed(source)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]
        if not source.lstrip().startswith("<!DOCTYPE html>"):
            self.faults.append("no doctype")

    @property
    def text(self) -> str:
        """Everything that a reader sees or can unfold."""
        return "".join(self._text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        if len(set(names)) != len(names):
            self.faults.append(f"<{tag}> has an attribute twice")
        if tag in ("script", "img", "iframe", "link", "object", "foreignobject"):
            self.faults.append(f"<{tag}> is not allowed")
        for name, value in attrs:
            if name.startswith("on") or name in ("src", "href", "xlink:href"):
                self.faults.append(f"<{tag} {name}> is not allowed")
            if name == "style" and _OUTSIDE.search(value or ""):
                self.faults.append(f"<{tag} style> reaches outside")
            if name == "d":
                self.paths.append(value or "")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]}")
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            if _OUTSIDE.search(data):
                self.faults.append("the style sheet reaches outside")
        else:
            self._text.append(data)


def reworded(event: Event, change: Callable[[str], str]) -> Event:
    """``event`` with every text in it changed, keys of tables included."""

    def through(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, str):
            return change(value)
        if isinstance(value, dict):
            return {through(key): through(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(through, value))
        return value

    return replace(event, **{f.name: through(getattr(event, f.name)) for f in fields(event)})
