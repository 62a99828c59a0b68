"""``ithaca doctor``: what this machine has and lacks."""

from __future__ import annotations

import argparse
from pathlib import Path

from ithaca.runtime.cli.commands import Commands
from ithaca.runtime.doctor import Finding, Level, can_run, examine


def register(commands: Commands) -> None:
    """Adds ``doctor`` to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="what this machine has and lacks",
        description="Looks at everything a job depends on. Exit code 0 if a job can run, else 1.",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs"),
        help="where run folders would go (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints one line for each finding; 0 if a job can run here."""
    findings: list[Finding] = []
    for finding in examine(arguments.folder):
        findings.append(finding)
        print(line(finding), flush=True)
    missing = [finding.name for finding in findings if finding.level is Level.MISSING]
    print()
    if can_run(findings):
        print("A job can run here.")
        return 0
    print(f"No job can run here yet; missing: {', '.join(missing)}.")
    return 1


def line(finding: Finding) -> str:
    """The finding as ``ok       torch         2.13.0``, and what to do below it."""
    head = f"{finding.level.value:8} {finding.name:14} {finding.text}"
    return f"{head}\n{'':23} -> {finding.todo}" if finding.todo else head
