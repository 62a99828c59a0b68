"""Text from a model: what it writes, when it ends, and what a terminal may see."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.runtime.workload import WithLoss
from ithaca.workloads.lm.generate import generate, printable


class Counting(nn.Module):
    """Is sure that each byte is followed by the next one; ends the document behind "z"."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.longest = 0

    def forward(self, inputs: Tensor) -> WithLoss:
        """Logits of the successor."""
        assert not self.training
        self.longest = max(self.longest, inputs.shape[1])
        following = torch.where(inputs == ord("z"), 0, (inputs + 1) % 256)
        return WithLoss(50.0 * F.one_hot(following, 256).bfloat16(), torch.zeros(()))


def written(prompt: bytes, temperature: float = 0.0, seed: int = 0) -> bytes:
    """Up to 40 bytes by the counting model."""
    return generate([Counting()], prompt, length=40, context=5, temperature=temperature, seed=seed)


def test_it_goes_on_until_the_document_ends() -> None:
    assert written(b"mnop") == b"qrstuvwxyz"
    assert written(b"mnop", temperature=0.5) == b"qrstuvwxyz"
    assert written(b"") == bytes(range(1, 41))


def test_the_model_sees_the_context_and_keeps_its_mode() -> None:
    model = Counting().train()
    state = torch.get_rng_state()
    generate([model], b"abcdefgh", length=9, context=5, temperature=1.0, seed=0)
    assert model.longest == 5
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_the_seed_decides() -> None:
    one, same, other = (written(b"a", temperature=10.0, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_terminal_sees_no_control_characters() -> None:
    assert printable("héllo\n\tworld".encode()) == "héllo\n\tworld"
    assert printable(b"a\x1b[31m\x07\xff\0b") == "a\ufffd[31m\ufffd\ufffd\ufffdb"
