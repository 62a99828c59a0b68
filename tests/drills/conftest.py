"""The option by which all drills are run."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak``: all drills, not only those of the suite."""
    parser.addoption("--soak", action="store_true", help="run every drill, not only the fast ones")
