"""Losses of PyTorch's DistributedDataParallel with open_clip's loss, for `operators/train/ranks_peers.rs`.

    OMP_NUM_THREADS=1 python operators/train/golden/ddp.py RANKS

Peers: torch (DistributedDataParallel over Gloo), open_clip_torch (CLIP, ClipLoss with local_loss and gather_with_grad).
RANKS processes on this machine; rank r takes the rows r*n..(r+1)*n of every batch. Weights, batches, recipe and the order
of a step are those of losses.py. Prints the mean of the ranks' losses of each step.
"""
import json
import math
import os
import sys
import tempfile

import open_clip
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from open_clip_train.scheduler import cosine_lr
from torch.nn.parallel import DistributedDataParallel

from losses import CLIP_CONFIG, caption_tokens, fill, pixels, scale_and_offset

RECIPE = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.2, "warmup_steps": 5}
STEPS, SAMPLES = 20, 16


def train(rank, size, grad_clip_norm):
    model = open_clip.CLIP(**CLIP_CONFIG, output_dict=True)
    fill(model, scale_and_offset)
    model = DistributedDataParallel(model)
    loss_of = open_clip.ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=size)
    exclude = lambda n, p: p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n
    named = list(model.module.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in named if exclude(n, p)], "weight_decay": 0.0},
            {"params": [p for n, p in named if not exclude(n, p)], "weight_decay": RECIPE["weight_decay"]},
        ],
        lr=RECIPE["lr"], betas=(RECIPE["beta1"], RECIPE["beta2"]), eps=RECIPE["eps"],
    )
    schedule = cosine_lr(optimizer, RECIPE["lr"], RECIPE["warmup_steps"], STEPS)
    model.train()
    losses, rows = [], slice(rank * SAMPLES // size, (rank + 1) * SAMPLES // size)
    for step in range(STEPS):
        images, texts = pixels(step, SAMPLES, 16)[rows], caption_tokens(step, SAMPLES, 12, 64)[rows]
        schedule(step)
        optimizer.zero_grad()
        loss = loss_of(**model(images, texts))
        loss.backward()
        if grad_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip_norm, norm_type=2.0)
        optimizer.step()
        with torch.no_grad():
            model.module.logit_scale.clamp_(0, math.log(100))
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(mean.item() / size)
    return losses


def work(rank, size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    out = {"free": train(rank, size, None), "clipped": train(rank, size, 1.0)}
    dist.destroy_process_group()
    if rank == 0:
        with open(f"{folder}/losses.json", "w") as file:
            json.dump(out, file)


if __name__ == "__main__":
    # Loopback, whatever the machine's name resolves to.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(work, args=(int(sys.argv[1]), folder), nprocs=int(sys.argv[1]))
        with open(f"{folder}/losses.json") as file:
            print(file.read())
