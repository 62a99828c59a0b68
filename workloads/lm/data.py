"""Micro-batches of windows of text, by id."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ithaca.runtime.workload import Batch, BatchId, Split
from ithaca.workloads.lm.config import DataConfig
from ithaca.workloads.lm.corpus import Corpus, Part, read_corpus
from ithaca.workloads.lm.source import signature
from ithaca.workloads.order import Order, sample_numbers


class Windows:
    """One part of the text as windows of ``context`` bytes, in the order of the samples.

    Window w holds the bytes from w * context to (w + 1) * context, both included: the last one is
    only a target, and the first input of the next window.

    Raises:
        ValueError: the text is shorter than one window.
    """

    def __init__(self, part: Part, context: int, key: str, split: Split) -> None:
        count = (len(part.text) - 1) // context
        if count < 1:
            raise ValueError(
                f"the {split.value} part of the data has {len(part.text)} bytes in "
                f"{len(part.names)} files, but one window of context {context} needs "
                f"{context + 1}; give more text, raise max_bytes or validation_fraction, "
                "or lower context"
            )
        self.order = Order(count, key)
        self._text = part.text
        self._context = context

    def take(self, numbers: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64 [n, context] each, of the samples with these numbers."""
        starts = self.order.positions(numbers) * self._context
        rows = self._text[starts[:, None] + np.arange(self._context + 1)]
        window = torch.from_numpy(rows).long()
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()


@lru_cache(maxsize=2)
def _corpus(config: DataConfig, state: str) -> Corpus:
    """Trials of a search are many jobs on one text in one process; ``state`` is of its files."""
    del state
    return read_corpus(config)


class TextData:
    """The text of a configuration, read when the first batch or the fingerprint is asked for.

    Args:
        config: where the text comes from.
        context: bytes in a window.
        batch_size: windows in a micro-batch.
        micro_batches: micro-batches in a step.
        seed: of the order of training; the order of validation is always the same.
    """

    def __init__(
        self, config: DataConfig, context: int, batch_size: int, micro_batches: int, seed: int
    ) -> None:
        self._config = config
        self._context = context
        self._batch_size = batch_size
        self._micro_batches = micro_batches
        self._seed = seed

    @cached_property
    def corpus(self) -> Corpus:
        """The text, read once in a process; ``ValueError`` if there is none."""
        return _corpus(self._config, signature(self._config))

    @cached_property
    def windows(self) -> dict[Split, Windows]:
        """The windows of both parts; ``ValueError`` if one has none."""
        train, validation = self.corpus.train, self.corpus.validation
        return {
            Split.TRAIN: Windows(train, self._context, f"train/{self._seed}", Split.TRAIN),
            Split.VALIDATION: Windows(validation, self._context, "validation", Split.VALIDATION),
        }

    def batch(self, which: BatchId) -> Batch:
        """Micro-batch ``which``: windows in an order that uses each exactly once per epoch.

        Validation has the same windows in every step, spread over the whole part; where it asks
        for more than there are, they come again in another order.
        """
        numbers = sample_numbers(which, self._batch_size, self._micro_batches)
        inputs, targets = self.windows[which.split].take(numbers)
        return Batch(inputs, targets, inputs.numel(), tuple(numbers.tolist()))
