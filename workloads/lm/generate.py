"""Writing text with a trained model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ithaca.runtime.workload import Value, WithLoss
from ithaca.workloads.lm.corpus import END


def forward(modules: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """The layers run one after the other: bytes [batch, length] to logits [batch, length, 256]."""
    value: Value = inputs
    for module in modules:
        result = module(value)
        value = result.value if isinstance(result, WithLoss) else result
    assert isinstance(value, Tensor)
    return value


def generate(
    modules: Sequence[nn.Module],
    prompt: bytes,
    *,
    length: int,
    context: int,
    temperature: float,
    seed: int,
) -> bytes:
    """At most ``length`` bytes that follow ``prompt``; ends early where the document ends.

    An empty prompt starts a new document. The model sees the last ``context`` bytes. The modules'
    mode is put back as it was, and the default generator stays as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(modules[0].parameters()).device
    written = list(prompt or bytes([END]))
    start = len(written)
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            for _ in range(length):
                inputs = torch.tensor([written[-context:]], device=device)
                logits = forward(modules, inputs)[0, -1].float().cpu()
                token = _drawn(logits, temperature, generator)
                if token == END:
                    break
                written.append(token)
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
    return bytes(written[start:])


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """One byte: the likeliest at temperature 0, else drawn from softmax(logits / temperature)."""
    if temperature == 0:
        return int(logits.argmax())
    probabilities = (logits / temperature).softmax(-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def printable(text: bytes) -> str:
    """``text`` as a string that is safe on a terminal: no control characters, no broken UTF-8."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for c in text.decode("utf-8", "replace")
    )
