"""The decoder in the terms of Hugging Face: a Llama model, or a Mixtral model if it has experts.

Our layout is theirs, weight by weight: separate query, key and value, rotary pairs half a head
apart, softmax over the chosen experts. So an export renames and changes no number.
"""

from __future__ import annotations

from typing import Any

from ithaca.workloads.lm.config import VOCABULARY, LMConfig
from ithaca.workloads.lm.corpus import END

_ATTENTION = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.output.weight": "self_attn.o_proj.weight",
    "feed_forward_norm.weight": "post_attention_layernorm.weight",
}
_DENSE = {
    "feed_forward.gate.weight": "mlp.gate_proj.weight",
    "feed_forward.up.weight": "mlp.up_proj.weight",
    "feed_forward.down.weight": "mlp.down_proj.weight",
}
_EXPERT = {"gate": "w1", "up": "w3", "down": "w2"}


def parameter_names(config: LMConfig) -> dict[str, str]:
    """Our parameter names, ``<layer>.<parameter>``, to theirs; a tied output is left out."""
    inside = _ATTENTION | (_DENSE if config.experts is None else _experts(config.experts.count))
    names = {"embed.weight": "model.embed_tokens.weight"}
    for i in range(config.num_layers):
        names |= {
            f"block{i}.{ours}": f"model.layers.{i}.{theirs}" for ours, theirs in inside.items()
        }
    names["head.norm.weight"] = "model.norm.weight"
    if not config.tied:
        names["head.weight"] = "lm_head.weight"
    return names


def _experts(count: int) -> dict[str, str]:
    """The names inside a block with a mixture of experts."""
    names = {"feed_forward.router.weight": "block_sparse_moe.gate.weight"}
    for i in range(count):
        for ours, theirs in _EXPERT.items():
            names[f"feed_forward.experts.{i}.{ours}.weight"] = (
                f"block_sparse_moe.experts.{i}.{theirs}.weight"
            )
    return names


def model_config(config: LMConfig) -> dict[str, Any]:
    """What stands in their ``config.json``."""
    result: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": config.dim,
        "intermediate_size": config.hidden_units,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": config.tied,
        "bos_token_id": END,
        "eos_token_id": END,
    }
    if config.experts is not None:
        del result["attention_bias"], result["mlp_bias"]
        result |= {
            "architectures": ["MixtralForCausalLM"],
            "model_type": "mixtral",
            "num_local_experts": config.experts.count,
            "num_experts_per_tok": config.experts.top_k,
            "router_aux_loss_coef": config.experts.balance,
            "sliding_window": None,
        }
    return result
