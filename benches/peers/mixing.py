"""Which samples open_clip's own loader puts into its batches: `get_wds_dataset` with its default buffers and workers.

Arguments: shards (captions are the samples' numbers), batch, passes, and a file for the numbers: u32, little endian, one
batch after the other; on stdout the number of batches of each pass.
"""

import functools
import importlib.machinery
import json
import sys
import types

sys.modules["pandas"] = pandas = types.ModuleType("pandas")  # for csv data sets only
pandas.__spec__ = importlib.machinery.ModuleSpec("pandas", None)

import numpy
import open_clip_train.data as loader
import torch
from open_clip_train.params import parse_args

# webdataset's later versions mark a shard's end with an empty member, which open_clip's reader does not know.
loader.tar_file_expander = functools.partial(loader.tar_file_expander, eof_value=None)

shards, batch, passes, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
args = parse_args(["--train-data", shards, "--dataset-type", "webdataset", "--batch-size", str(batch)])
args.world_size = 1
data = loader.get_wds_dataset(args, lambda image: 0, is_train=True, tokenizer=lambda text: [torch.tensor(int(text))])
counts = []
with open(out, "wb") as file:
    for epoch in range(passes):
        data.set_epoch(epoch)
        batches = 0
        for _, numbers in data.dataloader:
            assert len(numbers) == batch
            numpy.asarray(numbers, dtype="<u4").tofile(file)
            batches += 1
        counts.append(batches)
print(json.dumps({"batches": counts, "workers": args.workers}))
