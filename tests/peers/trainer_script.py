"""A script as people have it: a small Llama from scratch, with the Trainer of Hugging Face."""

from __future__ import annotations

import argparse
import hashlib

import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments


class Tokens(Dataset[dict[str, torch.Tensor]]):
    """Random sequences."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        drawn = torch.randint(512, (96,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": drawn, "labels": drawn}


def main() -> None:
    """Trains and prints a hash of the weights."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--accumulate", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
    )
    model = LlamaForCausalLM(config)
    arguments = TrainingArguments(
        output_dir=options.output,
        max_steps=6,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=options.accumulate,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    Trainer(model=model, args=arguments, train_dataset=Tokens()).train()
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    held = sum(parameter.nbytes for parameter in model.parameters())
    print(f"weights {digest.hexdigest()} parameters {held}")


if __name__ == "__main__":
    main()
