"""A plain DistributedDataParallel script, as any user of torchrun has one."""

import argparse
import gc
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs = torch.randn(8 * world, 16)
    targets = inputs.sum(dim=1, keepdim=True)
    losses = []
    for step in range(args.steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs[rank::world]), targets[rank::world])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        print(f"step {step} rank {rank} loss {loss.item():.6f}")
    (args.out / f"{os.environ['RANK']}.json").write_text(json.dumps(losses))
    # The model holds the group, whose threads torch ends with it: one that still lets go of its
    # last reduction when Python has ended aborts the process.
    del model, optimizer, loss
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
