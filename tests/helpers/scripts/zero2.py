"""A plain DeepSpeed ZeRO-2 script on CPU, as any user of torchrun has one."""

import argparse
import json
import os
import sys
from pathlib import Path

import deepspeed
import torch
from torch import nn

CONFIG = {
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 1,
    "zero_optimization": {"stage": 2, "overlap_comm": False},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    "gradient_clipping": 0.0,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--local_rank", type=int, default=0)
    args = parser.parse_args()
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # no C++ build at start
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=CONFIG)
    rank, world = engine.global_rank, engine.world_size
    inputs = torch.randn(4 * world, 16)
    targets = inputs.sum(dim=1, keepdim=True)
    losses = []
    for step in range(args.steps):
        loss = nn.functional.mse_loss(engine(inputs[rank::world]), targets[rank::world])
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
        print(f"step {step} rank {rank} loss {loss.item():.6f}")
    (args.out / f"{os.environ['RANK']}.json").write_text(json.dumps(losses))
    torch.distributed.destroy_process_group()
    # DeepSpeed keeps its groups alive, with their threads. One that gives back a tensor while the
    # interpreter ends aborts the process ("terminate called ..."): leave without that end.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
