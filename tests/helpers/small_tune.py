"""A small search over a small language model, for tests on real processes."""

from __future__ import annotations

from pathlib import Path

_SEARCH = """
name: small
job: job.yaml
budget: 10min
workers: 2
surrogate: random
replicate: 100ms
space:
  optimizer.lr: {float: [1e-3, 1e-1], log: true}
fidelity: {least: 6, most: 24, factor: 2}
"""
_JOB = """
name: tiny
steps: 24
workload:
  use: lm
  dim: 24
  num_layers: 1
  num_heads: 2
  context: 32
  batch_size: 2
  data: {source: python, max_bytes: 200000}
layout: {micro_batches: 2}
validation: {batches: 1}
"""


def write_search(folder: Path, *lines: str) -> Path:
    """The file of a search in ``folder``, with these lines of YAML more; its job beside it."""
    (folder / "job.yaml").write_text(_JOB)
    path = folder / "search.yaml"
    path.write_text(_SEARCH + "\n".join(lines) + "\n")
    return path
