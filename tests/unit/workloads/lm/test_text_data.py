"""Micro-batches of text: pure functions of their ids that use each window once per epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ithaca.runtime.workload import Batch, BatchId, Split
from ithaca.workloads.lm import data as module
from ithaca.workloads.lm.config import DataConfig
from ithaca.workloads.lm.data import TextData
from ithaca.workloads.order import Order

CONTEXT, BATCH, MICRO = 10, 3, 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with 20 texts of 100 different characters each."""
    for i in range(20):
        letters = "".join(chr(33 + (i * 7 + j) % 90) for j in range(100))
        (tmp_path / f"{i}.txt").write_text(letters)
    return tmp_path


def data(root: Path, seed: int = 0, context: int = CONTEXT) -> TextData:
    """Windows of 10 bytes, 3 in a micro-batch, 4 micro-batches in a step."""
    config = DataConfig.model_validate({"folder": root, "validation_fraction": 0.2})
    return TextData(config, context, BATCH, MICRO, seed)


def inputs(batch: Batch) -> Tensor:
    """Its inputs, which are one tensor."""
    assert isinstance(batch.inputs, Tensor)
    return batch.inputs


def first_epoch(text: TextData) -> list[tuple[int, ...]]:
    """The windows of the first epoch, in the order of training."""
    count = text.windows[Split.TRAIN].order.size
    steps = -(-count // (BATCH * MICRO))
    ids = [BatchId(step, i) for step in range(steps) for i in range(MICRO)]
    return [tuple(row.tolist()) for which in ids for row in inputs(text.batch(which))][:count]


def test_targets_are_the_next_bytes(root: Path) -> None:
    text = data(root)
    stream = torch.tensor(text.corpus.train.text.tolist())
    batch = text.batch(BatchId(2, 1))
    assert inputs(batch).shape == batch.targets.shape == (BATCH, CONTEXT)
    assert inputs(batch).dtype == batch.targets.dtype == torch.int64
    assert inputs(batch).is_contiguous()
    assert batch.targets.is_contiguous()
    assert torch.equal(inputs(batch)[:, 1:], batch.targets[:, :-1])
    assert batch.count == BATCH * CONTEXT
    assert batch.samples == (27, 28, 29)
    windows = stream.unfold(0, CONTEXT + 1, CONTEXT).tolist()
    for row, target in zip(inputs(batch), batch.targets, strict=True):
        assert [*row.tolist(), int(target[-1])] in windows


def test_each_window_once_per_epoch(root: Path) -> None:
    text = data(root)
    stream = text.corpus.train.text
    count = text.windows[Split.TRAIN].order.size
    assert count == (len(stream) - 1) // CONTEXT
    expected = [tuple(stream[i * CONTEXT : (i + 1) * CONTEXT].tolist()) for i in range(count)]
    assert sorted(first_epoch(text)) == sorted(expected)
    assert first_epoch(text) != expected


def test_a_repeated_window_is_caught(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Order.positions
    monkeypatch.setattr(Order, "positions", lambda self, numbers: right(self, numbers) // 2)
    windows = first_epoch(data(root))
    assert len(set(windows)) < len(windows)


def test_a_batch_depends_on_its_id_alone(root: Path) -> None:
    one, other = data(root), data(root)
    for step in range(5):
        other.batch(BatchId(step, 0))
    for which in (BatchId(0, 0), BatchId(100, 3), BatchId(100, 3, Split.VALIDATION)):
        assert torch.equal(inputs(one.batch(which)), inputs(other.batch(which)))
    assert not torch.equal(inputs(one.batch(BatchId(0, 0))), inputs(one.batch(BatchId(0, 1))))


def test_the_seed_changes_the_order_of_training_alone(root: Path) -> None:
    one, other = data(root), data(root, seed=1)
    assert first_epoch(one) != first_epoch(other)
    assert sorted(first_epoch(one)) == sorted(first_epoch(other))
    which = BatchId(0, 0, Split.VALIDATION)
    assert torch.equal(inputs(one.batch(which)), inputs(other.batch(which)))


def test_validation_is_the_same_in_each_step_and_of_its_own_files(root: Path) -> None:
    text = data(root)
    first, later = (text.batch(BatchId(step, 2, Split.VALIDATION)) for step in (0, 70))
    assert torch.equal(inputs(first), inputs(later))
    stream = bytes(text.corpus.validation.text)
    assert all(bytes(row.tolist()) in stream for row in inputs(first))


def test_too_little_text_for_a_window_is_said(root: Path) -> None:
    with pytest.raises(ValueError, match=r"context 1000 needs 1001; give more text.*lower context"):
        _ = data(root, context=1000).windows


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    text = data(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="does not exist"):
        text.batch(BatchId(0, 0))


def test_the_text_is_read_once_until_a_file_changes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = data(root).corpus
    assert data(root, seed=3, context=5).corpus is before
    (root / "3.txt").write_text("changed")
    after = data(root).corpus
    assert after.fingerprint() != before.fingerprint()
    # The control: files that are not looked at give the old text.
    monkeypatch.setattr(module, "signature", lambda config: "")
    same = data(root).corpus
    (root / "4.txt").write_text("changed too")
    assert data(root).corpus is same
