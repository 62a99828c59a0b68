"""The layers of the decoder: embedding, blocks, and a head that gives logits."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.runtime.workload import WithLoss
from ithaca.workloads.lm.attention import Attention
from ithaca.workloads.lm.config import VOCABULARY, LMConfig
from ithaca.workloads.lm.feed_forward import FeedForward
from ithaca.workloads.lm.moe import MixtureOfExperts
from ithaca.workloads.lm.norm import RMSNorm


def _initialise(module: nn.Module, scale: float = 1.0) -> None:
    """Normal weights that keep the variance, times ``scale``, for each projection inside."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=scale * part.in_features**-0.5)


def _dropped(x: Tensor, layer: Embed | Block) -> Tensor:
    """``x`` with the layer's dropout; draws no random number where there is none."""
    return F.dropout(x, layer.dropout) if layer.dropout and layer.training else x


class Embed(nn.Embedding):
    """Bytes, int64 [batch, length], to vectors [batch, length, dim].

    Starts with the variance of what the blocks add; where the head has the same weight, with the
    variance that the head needs.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__(VOCABULARY, config.dim)
        self.dropout = config.dropout
        nn.init.normal_(self.weight, std=config.dim**-0.5 if config.tied else 1.0)

    def forward(self, input: Tensor) -> Tensor:
        """[batch, length] to [batch, length, dim]."""
        return _dropped(super().forward(input), self)


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a norm and added to the stream.

    The projections back into the stream start smaller by sqrt(2 * num_layers), so that the sum
    over all blocks starts with the variance of one.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_norm = RMSNorm(config.dim)
        self.attention = Attention(
            config.dim, config.num_heads, config.kv_heads, config.context, config.rope_base
        )
        self.feed_forward_norm = RMSNorm(config.dim)
        self.feed_forward: FeedForward | MixtureOfExperts
        if config.experts is None:
            self.feed_forward = FeedForward(config.dim, config.hidden_units)
        else:
            experts = config.experts
            self.feed_forward = MixtureOfExperts(
                config.dim,
                config.hidden_units,
                experts.count,
                experts.top_k,
                experts.balance,
                experts.z,
            )
        self._initialise(2 * config.num_layers)

    def _initialise(self, additions: int) -> None:
        _initialise(self)
        scale = additions**-0.5
        _initialise(self.attention.output, scale)
        for part in self.feed_forward.modules():
            if isinstance(part, FeedForward):
                _initialise(part.down, scale)

    def forward(self, x: Tensor) -> Tensor | WithLoss:
        """[batch, length, dim] to the same shape; with the auxiliary loss if there are experts."""
        x = x + _dropped(self.attention(self.attention_norm(x)), self)
        changed = self.feed_forward(self.feed_forward_norm(x))
        if isinstance(self.feed_forward, FeedForward):
            return x + _dropped(changed, self)
        value, loss = changed
        return WithLoss(x + _dropped(value, self), loss)


class Head(nn.Linear):
    """The last norm and the projection to logits, [batch, length, 256]."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__(config.dim, VOCABULARY, bias=False)
        self.norm = RMSNorm(config.dim)
        nn.init.normal_(self.weight, std=config.dim**-0.5)

    def forward(self, input: Tensor) -> Tensor:
        """[batch, length, dim] to [batch, length, 256]."""
        return super().forward(self.norm(input))
