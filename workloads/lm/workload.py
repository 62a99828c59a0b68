"""The plug-in ``lm``: a byte-level decoder trained on text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.runtime.workload import (
    Batch,
    BatchId,
    LayerSpec,
    Metric,
    TiedWeights,
    Value,
    Workload,
)
from ithaca.workloads.lm.config import LMConfig
from ithaca.workloads.lm.data import TextData
from ithaca.workloads.lm.generate import generate, printable
from ithaca.workloads.lm.hugging_face import model_config, parameter_names
from ithaca.workloads.lm.model import Block, Embed, Head

__all__ = ["LM", "LMConfig"]


class LM(Workload):
    """A decoder with the layers ``embed``, ``block0`` .. ``block<n-1>`` and ``head``.

    Args:
        config: its size and its data.
        seed: of the order of the samples and of the text written at the end.
        micro_batches: micro-batches in a step; tells which samples a step has.
    """

    Config = LMConfig
    metric = Metric("bits per byte", 1 / math.log(2))

    def __init__(self, config: LMConfig, *, seed: int, micro_batches: int) -> None:
        self.config = config
        self.seed = seed
        self.data = TextData(config.data, config.context, config.batch_size, micro_batches, seed)

    def layers(self) -> Sequence[LayerSpec]:
        """The embedding, the blocks and the head."""
        blocks = [
            LayerSpec(f"block{i}", partial(Block, self.config))
            for i in range(self.config.num_layers)
        ]
        embed = LayerSpec("embed", partial(Embed, self.config))
        return [embed, *blocks, LayerSpec("head", partial(Head, self.config))]

    def loss(self, output: Value, batch: Batch) -> Tensor:
        """The cross entropy, in nats, summed over the bytes; computed in fp32."""
        assert isinstance(output, Tensor)
        return F.cross_entropy(
            output.float().flatten(0, -2), batch.targets.flatten(), reduction="sum"
        )

    def batch(self, which: BatchId) -> Batch:
        """Bytes and the bytes that follow them, int64 [batch_size, context] each."""
        return self.data.batch(which)

    def ties(self) -> Sequence[TiedWeights]:
        """The embedding and the output projection, if ``tied``."""
        return [TiedWeights(("embed", "weight"), ("head", "weight"))] if self.config.tied else []

    def fingerprint(self) -> dict[str, str]:
        """Hashes and sizes of both parts of the text; ``ValueError`` if it cannot be used."""
        _ = self.data.windows  # so that a part too short is found before the first step
        return self.data.corpus.fingerprint()

    def showcase(self, modules: Sequence[nn.Module]) -> str | None:
        """The prompt and what the trained model writes behind it."""
        sample = self.config.sample
        if not sample.bytes:
            return None
        prompt = sample.prompt.encode()
        written = generate(
            modules,
            prompt,
            length=sample.bytes,
            context=self.config.context,
            temperature=sample.temperature,
            seed=self.seed,
        )
        return printable(prompt + written)

    def hugging_face(self) -> tuple[dict[str, str], dict[str, Any]]:
        """For an export to Hugging Face: parameter names, ours to theirs, and ``config.json``.

        Parameters that the names leave out are not written; no weight changes its shape.
        """
        return parameter_names(self.config), model_config(self.config)
