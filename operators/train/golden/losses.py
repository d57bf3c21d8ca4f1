"""Losses of open_clip's recipe over 20 steps, for `operators/train/golden_tests.rs`.

    OMP_NUM_THREADS=1 python operators/train/golden/losses.py > operators/train/golden/losses.json

Peers: open_clip_torch 3.3 (CLIP, ClipLoss), open_clip_train (cosine_lr, autocast), torch (AdamW, clip_grad_norm_). The
groups of parameters and the order of a step are those of open_clip_train's main.py and train.py. Weights and batches come
from one formula that both sides compute; only losses are stored.
"""
import json
import math
import sys
from importlib.metadata import version

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip_train.precision import get_autocast
from open_clip_train.scheduler import cosine_lr

torch.set_num_threads(1)
M64 = (1 << 64) - 1
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD

CLIP_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "patch_size": 4, "head_width": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 64, "width": 48, "heads": 3, "layers": 2},
}


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def fnv(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & M64
    return h


def uniform(name, count):
    seed = fnv(name)
    return np.array([(mix((seed + i) & M64) >> 40) / (1 << 23) - 1.0 for i in range(count)])


def scale_and_offset(name, shape):
    """How a parameter's uniform numbers are stretched: the same rule as in golden_tests.rs."""
    if name == "logit_scale":
        return 0.0, math.log(1 / 0.07)
    if len(shape) < 2:
        return 0.1, 1.0 if name.endswith("weight") else 0.0
    if "embedding" in name:
        return 0.3, 0.0
    if name in ("visual.proj", "text_projection"):
        return 0.3, 0.0
    return 1.5 / math.sqrt(np.prod(shape[1:])), 0.0


def fill(model, rule):
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale, offset = rule(name, tuple(p.shape))
            values = (offset + scale * uniform(name, p.numel())).astype(np.float32)
            p.copy_(torch.from_numpy(values).reshape(p.shape))


def pixels(number, samples, size):
    out = np.zeros((samples, size * size * 3), np.uint8)
    for s in range(samples):
        c = mix(number * 1000 + s) % 40
        out[s] = [mix(c * 997 + i // 12) >> 56 for i in range(size * size * 3)]
    x = torch.from_numpy(out.reshape(samples, size, size, 3)).permute(0, 3, 1, 2).float().contiguous() / 255.0
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def plain_tokens(number, samples, context, vocabulary):
    rows = [[mix((mix(number * 1000 + s) % 40) * 31 + i) % vocabulary for i in range(context)] for s in range(samples)]
    return torch.tensor(rows)


def caption_tokens(number, samples, context, vocabulary):
    """Start token, a few words of the class, end token, zeros."""
    rows = []
    for s in range(samples):
        c = mix(number * 1000 + s) % 40
        words = [1 + mix(c * 31 + i) % (vocabulary - 3) for i in range(3 + c % (context - 5))]
        row = [vocabulary - 2, *words, vocabulary - 1]
        rows.append(row + [0] * (context - len(row)))
    return torch.tensor(rows)


class Tiny(torch.nn.Module):
    """The small model of tiny.rs."""

    def __init__(self):
        super().__init__()
        new = lambda *shape: torch.nn.Parameter(torch.zeros(*shape))
        self.visual = torch.nn.Module()
        self.visual.conv1 = torch.nn.Linear(192, 24, bias=False)
        self.visual.register_parameter("proj", new(24, 16))
        self.token_embedding = torch.nn.Embedding(50, 24)
        self.ln_final = torch.nn.LayerNorm(24)
        self.text_projection = new(24, 16)
        self.logit_scale = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, images, texts):
        image = F.gelu(self.visual.conv1(images.flatten(1))) @ self.visual.proj
        text = self.ln_final(self.token_embedding(texts).mean(1)) @ self.text_projection
        return {
            "image_features": F.normalize(image, dim=-1),
            "text_features": F.normalize(text, dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }


def tiny_rule(name, shape):
    rules = {
        "visual.conv1.weight": (0.1, 0.0), "visual.proj": (0.3, 0.0), "token_embedding.weight": (0.5, 0.0),
        "ln_final.weight": (0.1, 1.0), "ln_final.bias": (0.1, 0.0), "text_projection": (0.3, 0.0),
        "logit_scale": (0.0, math.log(1 / 0.07)),
    }
    return rules[name]


def train(model, batches, recipe, precision="fp32", accum=1):
    exclude = lambda n, p: p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n
    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in named if exclude(n, p)], "weight_decay": 0.0},
            {"params": [p for n, p in named if not exclude(n, p)], "weight_decay": recipe["weight_decay"]},
        ],
        lr=recipe["lr"], betas=(recipe["beta1"], recipe["beta2"]), eps=recipe["eps"],
    )
    schedule = cosine_lr(optimizer, recipe["lr"], recipe["warmup_steps"], len(batches))
    loss_of = open_clip.ClipLoss()
    autocast = get_autocast(precision, device_type="cpu")
    model.train()
    losses = []
    for step, (images, texts) in enumerate(batches):
        schedule(step)
        optimizer.zero_grad()
        if accum == 1:
            with autocast():
                out = model(images, texts)
                loss = loss_of(**out)
            loss.backward()
        else:
            chunks = list(zip(images.chunk(accum), texts.chunk(accum)))
            with torch.no_grad(), autocast():
                cached = [model(i, t) for i, t in chunks]
            for j, (i, t) in enumerate(chunks):
                with autocast():
                    out = model(i, t)
                    inputs = {
                        k: torch.cat([c[k] for c in cached[:j]] + [out[k]] + [c[k] for c in cached[j + 1:]])
                        for k in ("image_features", "text_features")
                    }
                    loss = loss_of(**inputs, logit_scale=out["logit_scale"])
                loss.backward()
        if recipe["grad_clip_norm"] is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["grad_clip_norm"], norm_type=2.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
    return losses


def main():
    recipe = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.2, "warmup_steps": 5}
    steps, samples = 20, 16
    out = {
        "script": "operators/train/golden/losses.py",
        "peers": {name: version(name) for name in ("open_clip_torch", "torch")},
        "steps": steps, "batch_samples": samples, "clip_config": CLIP_CONFIG, "recipe": recipe, "losses": {},
    }

    def tiny():
        model = Tiny()
        fill(model, tiny_rule)
        return model

    def clip():
        model = open_clip.CLIP(**CLIP_CONFIG, output_dict=True)
        fill(model, scale_and_offset)
        return model

    tiny_batches = [(pixels(k, samples, 8), plain_tokens(k, samples, 6, 50)) for k in range(steps)]
    clip_batches = [(pixels(k, samples, 16), caption_tokens(k, samples, 12, 64)) for k in range(steps)]
    free, clipped = {**recipe, "grad_clip_norm": None}, {**recipe, "grad_clip_norm": 1.0}
    for name, make, batches in (("tiny", tiny, tiny_batches), ("clip", clip, clip_batches)):
        out["losses"][name] = train(make(), batches, free)
        out["losses"][f"{name} clipped"] = train(make(), batches, clipped)
        out["losses"][f"{name} accumulated 4"] = train(make(), batches, free, accum=4)
        out["losses"][f"{name} bf16"] = train(make(), batches, free, precision="amp_bf16")
    json.dump(out, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
