"""open_clip's training on a CPU, as its trainer does it: its loader, transform, tokenizer, model and loss; torch's fused AdamW.

argv: model, shards, batch, steps, threads. Prints one JSON line: samples a second over all steps but the first, and of the steps without what
they waited for their samples.
"""

import argparse
import functools
import json
import sys
import time

import open_clip
import open_clip_train.data as loader
import torch

# webdataset's later versions mark a shard's end with an empty member, which open_clip's reader does not know.
loader.tar_file_expander = functools.partial(loader.tar_file_expander, eof_value=None)

model_name, shards = sys.argv[1:3]
batch, steps, threads = map(int, sys.argv[3:6])
torch.set_num_threads(threads)
torch.manual_seed(0)
model, preprocess, _ = open_clip.create_model_and_transforms(model_name)
model.train()
loss_of = open_clip.ClipLoss()
# open_clip_train's groups and its defaults for a ViT.
named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
is_plain = lambda name, weight: weight.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))
optimiser = torch.optim.AdamW(
    [
        {"params": [weight for name, weight in named if is_plain(name, weight)], "weight_decay": 0.0},
        {"params": [weight for name, weight in named if not is_plain(name, weight)], "weight_decay": 0.2},
    ],
    lr=5e-4,
    betas=(0.9, 0.98),
    eps=1e-6,
    fused=True,
)
args = argparse.Namespace(
    train_data=shards,
    train_num_samples=batch * steps,
    train_data_upsampling_factors=None,
    dataset_resampled=True,
    batch_size=batch,
    workers=1,
    world_size=1,
    seed=0,
)
data = loader.get_wds_dataset(args, preprocess, True, tokenizer=open_clip.get_tokenizer(model_name))
took, waited = [], []
end = time.perf_counter()
for images, texts in data.dataloader:
    waited.append(time.perf_counter() - end)
    optimiser.zero_grad()
    loss_of(*model(images, texts)).backward()
    optimiser.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, 4.6052)
    took.append(time.perf_counter() - end)
    end = time.perf_counter()
assert len(took) == steps, (len(took), steps)
samples = batch * (steps - 1)
print(json.dumps({
    "samples_per_second": samples / sum(took[1:]),
    "step_samples_per_second": samples / (sum(took[1:]) - sum(waited[1:])),
}))
