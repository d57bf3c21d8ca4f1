"""Losses of open_clip's recipe over 20 steps, for `operators/train/golden_tests.rs`.

    OMP_NUM_THREADS=1 python operators/train/golden/losses.py > operators/train/golden/losses.json

Peers: open_clip_torch 3.3 (CLIP, and open_clip_train.main, which trains by itself: trainer.py), torch. Weights and batches come
from one formula that both sides compute; only losses are stored.
"""
import json
import math
import sys
import tempfile
from importlib.metadata import version

import numpy as np
import open_clip
import torch
import torch.nn.functional as F

from trainer import known, train

torch.set_num_threads(1)
M64 = (1 << 64) - 1
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD

CLIP_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "patch_size": 4, "head_width": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 64, "width": 48, "heads": 3, "layers": 2},
}
RECIPE = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.2, "warmup_steps": 5}
STEPS, SAMPLES = 20, 16


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


def clip(folder):
    """The model "golden" of open_clip's class; the file of its weights."""
    known(folder, "golden", CLIP_CONFIG)
    model = open_clip.CLIP(**CLIP_CONFIG)
    fill(model, scale_and_offset)
    torch.save(model.state_dict(), f"{folder}/golden.pt")
    return f"{folder}/golden.pt"


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


def words_of(recipe):
    """open_clip's command line for one pass by a recipe."""
    flags = {"lr": "--lr", "beta1": "--beta1", "beta2": "--beta2", "eps": "--eps", "weight_decay": "--wd", "warmup_steps": "--warmup"}
    return ["--epochs", "1"] + [word for name, flag in flags.items() for word in (flag, str(recipe[name]))]


def main():
    out = {
        "script": "operators/train/golden/losses.py",
        "peers": {name: version(name) for name in ("open_clip_torch", "torch")},
        "steps": STEPS, "batch_samples": SAMPLES, "clip_config": CLIP_CONFIG, "recipe": RECIPE, "losses": {},
    }

    def tiny():
        model = Tiny()
        fill(model, tiny_rule)
        return model

    tiny_batches = [(pixels(k, SAMPLES, 8), plain_tokens(k, SAMPLES, 6, 50)) for k in range(STEPS)]
    clip_batches = [(pixels(k, SAMPLES, 16), caption_tokens(k, SAMPLES, 12, 64)) for k in range(STEPS)]
    cases = {
        "": ["--precision", "fp32"],
        " clipped": ["--precision", "fp32", "--grad-clip-norm", "1.0"],
        " accumulated 4": ["--precision", "fp32", "--accum-freq", "4"],
        " bf16": ["--precision", "amp_bf16"],
    }
    with tempfile.TemporaryDirectory() as folder:
        weights = ["--model", "golden", "--pretrained", clip(folder)]
        for name, make, batches in (("tiny", tiny, tiny_batches), ("clip", None, clip_batches)):
            for case, more in cases.items():
                words = [*weights, *words_of(RECIPE), *more]
                out["losses"][name + case] = train(folder, name + case, batches, words, make=make)
    json.dump(out, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
