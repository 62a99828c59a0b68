"""An export computes what Llama and Mixtral compute, written down here once more by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ithaca.workloads.lm import hugging_face
from ithaca.workloads.lm.config import LMConfig
from ithaca.workloads.lm.generate import forward
from ithaca.workloads.lm.workload import LM

KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2},
    "tied llama": {"tied": True},
    "mixtral": {"experts": {"count": 4, "top_k": 2}, "num_kv_heads": 1},
}


def exported(lm: LM) -> tuple[list[nn.Module], dict[str, Tensor]]:
    """The layers of a model with random norms, and its weights under the other names."""
    torch.manual_seed(0)
    modules = {layer.name: layer.build() for layer in lm.layers()}
    for tie in lm.ties():
        value = modules[tie.first[0]].get_parameter(tie.first[1])
        setattr(modules[tie.second[0]], tie.second[1], value)
    ours = {f"{n}.{k}": p for n, m in modules.items() for k, p in m.named_parameters()}
    for parameter in ours.values():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0, 0.3)
    names, _ = lm.hugging_face()
    assert set(names) <= set(ours)
    left_out = {"head.weight"} if lm.config.tied else set()
    assert set(ours) - set(names) == left_out
    assert len(set(names.values())) == len(names)
    return list(modules.values()), {names[k]: ours[k].detach() for k in names}


class Peer:
    """The published model, from ``config.json`` and weights alone; one sequence at a time."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        self.config = config
        self.weights = weights

    def logits(self, tokens: Tensor) -> Tensor:
        """[length] to [length, vocabulary]."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        for i in range(self.config["num_hidden_layers"]):
            own = f"model.layers.{i}."
            x = x + self.attention(own + "self_attn.", self.norm(own + "input_layernorm", x))
            x = x + self.mlp(own, self.norm(own + "post_attention_layernorm", x))
        head = "model.embed_tokens" if self.config["tie_word_embeddings"] else "lm_head"
        return self.norm("model.norm", x) @ self.weights[head + ".weight"].T

    def norm(self, name: str, x: Tensor) -> Tensor:
        """RMSNorm."""
        eps: float = self.config["rms_norm_eps"]
        scale = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
        return x * scale * self.weights[name + ".weight"]

    def attention(self, own: str, x: Tensor) -> Tensor:
        """Causal grouped-query attention with rotate_half."""
        width, heads = self.config["head_dim"], self.config["num_attention_heads"]
        group = heads // self.config["num_key_value_heads"]
        q, k, v = (
            (x @ self.weights[f"{own}{name}_proj.weight"].T).unflatten(-1, (-1, width))
            for name in "qkv"
        )
        frequencies = self.config["rope_theta"] ** (-torch.arange(0, width, 2) / width)
        angles = torch.outer(torch.arange(len(x)).float(), frequencies)
        cos, sin = (f(torch.cat((angles, angles), -1))[:, None] for f in (torch.cos, torch.sin))
        q, k = (
            t * cos + torch.cat((-t[..., width // 2 :], t[..., : width // 2]), -1) * sin
            for t in (q, k)
        )
        mask = torch.full((len(x), len(x)), float("-inf")).triu(1)
        out = [
            (q[:, h] @ k[:, h // group].T / width**0.5 + mask).softmax(-1) @ v[:, h // group]
            for h in range(heads)
        ]
        return torch.cat(out, -1) @ self.weights[own + "o_proj.weight"].T

    def mlp(self, own: str, x: Tensor) -> Tensor:
        """The dense network, or the mixture of experts."""
        if self.config["model_type"] == "llama":
            return self.gated([f"{own}mlp.{n}_proj" for n in ("gate", "up", "down")], x)
        moe = own + "block_sparse_moe."
        probabilities = (x @ self.weights[moe + "gate.weight"].T).softmax(-1)
        top, chosen = probabilities.topk(self.config["num_experts_per_tok"], -1)
        top = top / top.sum(-1, keepdim=True)
        share = torch.zeros_like(probabilities).scatter(-1, chosen, top)
        experts = [
            self.gated([f"{moe}experts.{e}.{n}" for n in ("w1", "w3", "w2")], x)
            for e in range(self.config["num_local_experts"])
        ]
        return (torch.stack(experts, -1) * share[:, None]).sum(-1)

    def gated(self, names: list[str], x: Tensor) -> Tensor:
        """SwiGLU."""
        gate, up, down = (self.weights[name + ".weight"] for name in names)
        return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T


def difference(kind: dict[str, Any]) -> float:
    """The largest difference of a logit between our model and the export of it."""
    config = {"dim": 32, "num_layers": 2, "context": 24, "hidden": 48, "rope_base": 500.0, **kind}
    lm = LM(LMConfig.model_validate(config), seed=0, micro_batches=1)
    modules, weights = exported(lm)
    tokens = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(0))
    peer = Peer(lm.hugging_face()[1], weights)
    with torch.no_grad():
        theirs = torch.stack([peer.logits(row) for row in tokens])
        return (forward(modules, tokens) - theirs).abs().max().item()


@pytest.mark.parametrize("kind", KINDS)
def test_the_export_computes_the_same(kind: str) -> None:
    assert difference(KINDS[kind]) < 2e-5


@pytest.mark.parametrize(
    ("table", "kind", "swapped"),
    [
        ("_ATTENTION", "tied llama", ("attention.query.weight", "attention.key.weight")),
        ("_DENSE", "llama", ("feed_forward.gate.weight", "feed_forward.up.weight")),
        ("_EXPERT", "mixtral", ("gate", "up")),
    ],
)
def test_swapped_names_are_caught(
    monkeypatch: pytest.MonkeyPatch, table: str, kind: str, swapped: tuple[str, str]
) -> None:
    names = dict(getattr(hugging_face, table))
    names[swapped[0]], names[swapped[1]] = names[swapped[1]], names[swapped[0]]
    monkeypatch.setattr(hugging_face, table, names)
    assert difference(KINDS[kind]) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_config_names_the_model(kind: str) -> None:
    lm = LM(LMConfig.model_validate(KINDS[kind]), seed=0, micro_batches=1)
    config = lm.hugging_face()[1]
    assert config["model_type"] in kind
    assert config["architectures"] == [config["model_type"].capitalize() + "ForCausalLM"]
    assert config["tie_word_embeddings"] is lm.config.tied
