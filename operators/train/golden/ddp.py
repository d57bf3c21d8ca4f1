"""Losses of PyTorch's DistributedDataParallel in open_clip's own trainer, for `operators/train/ranks_peers.rs`.

    OMP_NUM_THREADS=1 python operators/train/golden/ddp.py RANKS

Peers: torch (DistributedDataParallel over Gloo), open_clip_torch (open_clip_train.main with --local-loss and --gather-with-grad).
RANKS processes on this machine; rank r takes the rows r*n..(r+1)*n of every batch. Weights, batches and recipe are those of
losses.py. Prints the mean of the ranks' losses of each step.
"""
import json
import os
import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch.nn.parallel import DistributedDataParallel

from losses import RECIPE, SAMPLES, STEPS, caption_tokens, clip, pixels, words_of
from trainer import train


def work(rank, size, folder):
    torch.set_num_threads(1)
    # open_clip_train names a device for the module, which PyTorch refuses of the CPU.
    torch.nn.parallel.DistributedDataParallel = lambda model, device_ids: DistributedDataParallel(model)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    own = f"{folder}/{rank}"
    os.mkdir(own)
    rows = slice(rank * SAMPLES // size, (rank + 1) * SAMPLES // size)
    batches = [(pixels(k, SAMPLES, 16)[rows], caption_tokens(k, SAMPLES, 12, 64)[rows]) for k in range(STEPS)]
    words = ["--model", "golden", "--pretrained", clip(own), "--precision", "fp32", "--local-loss", "--gather-with-grad"]
    out = {}
    for name, more in {"free": [], "clipped": ["--grad-clip-norm", "1.0"], "accumulated": ["--accum-freq", "2"]}.items():
        meeting = ["--dist-url", f"file://{folder}/{name}?rank={rank}&world_size={size}"]
        mean = torch.tensor(train(own, name, batches, words + words_of(RECIPE) + meeting + more), dtype=torch.float64) / size
        dist.all_reduce(mean)
        out[name] = mean.tolist()
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
