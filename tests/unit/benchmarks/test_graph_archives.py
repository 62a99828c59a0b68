"""Archives of published sets: what the files say is what the archive has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.graphs.archives import tu
from benchmarks.graphs.families import read_exp, read_family
from ithaca.workloads.csgnn.dataset import Task, checked
from tests.helpers.toy_tu import write_toy_tu


def test_a_tu_set_is_read(tmp_path: Path) -> None:
    data = checked(tu(write_toy_tu(tmp_path), "TOY", 1), "toy")
    assert data.task is Task.CLASSES
    assert data.targets.tolist() == [1, 0] * 20
    assert data.vertex_types.tolist() == [0, 0, 1] * 40
    assert data.graphs.take(torch.tensor([1])).edges.t().tolist() == [[0, 1], [1, 2]]
    assert data.test.tolist() == [36, 37, 38, 39]
    parts = torch.cat([data.train, data.validation])
    assert sorted(parts.tolist()) == list(range(36))
    assert len(data.validation) == 3


def test_what_is_missing_or_cut_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"TOY\.txt with folds 1\.\.10 is needed; .* fold 11"):
        tu(write_toy_tu(tmp_path), "TOY", 11)
    with pytest.raises(ValueError, match=r"sr16622\.g6 is missing"):
        read_family(tmp_path, "sr16622")
    with pytest.raises(ValueError, match=r"exp\.txt is missing"):
        read_exp(tmp_path)
    (tmp_path / "exp.txt").write_text("1200\n3 1\n0 1\n3 2\n0 1\n")
    with pytest.raises(ValueError, match="is cut: it announces 1200 graphs"):
        read_exp(tmp_path)
    (tmp_path / "sr").mkdir()
    (tmp_path / "sr" / "sr16622.g6").write_text("DQc\n")
    with pytest.raises(ValueError, match="has 1 graphs, not 2"):
        read_family(tmp_path, "sr16622")
