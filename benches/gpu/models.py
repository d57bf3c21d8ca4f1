"""What the torch side shares: the device, open_clip's models from a seed, and how a rate is taken on a device that works asynchronously."""

import copy
import gc
import math
import os
import time

import open_clip
import torch

CUDA = torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")
DEVICE = torch.device("cuda:0" if CUDA else "cpu")
HALF = torch.float16 if CUDA else torch.float32
CORES = len(os.sched_getaffinity(0))

torch.backends.cuda.matmul.allow_tf32 = True  # As open_clip's trainer sets them.
torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True
# f16 products are summed in f32, on both sides of the comparison.
torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def sync():
    """Waits for the device."""
    if CUDA:
        torch.cuda.synchronize()


def rate(step, each, seconds):
    """Units a second of `step`, which does `each` of them: as many calls as fill `seconds`, one synchronisation at their end."""
    few = 3 if CUDA else 1
    for _ in range(few):
        step()
    sync()
    began = time.perf_counter()
    for _ in range(few):
        step()
    sync()
    one = (time.perf_counter() - began) / few
    calls = max(few, math.ceil(seconds / one))
    began = time.perf_counter()
    for _ in range(calls):
        step()
    sync()
    return calls * each / (time.perf_counter() - began)


class Models:
    """open_clip's models, made once from a seed in f32 on the CPU; sections move a copy to the device and drop it."""

    def __init__(self):
        self.made = {}

    def name(self, model):
        """open_clip's name of `model`: a name, or the path of a JSON configuration."""
        if model.endswith(".json"):
            open_clip.add_model_config(model)
            return os.path.splitext(os.path.basename(model))[0]
        return model

    def get(self, model):
        """The model and open_clip's transform for evaluation."""
        return self.parts(model)[0], self.parts(model)[2]

    def parts(self, model):
        """The model, and open_clip's transforms for training and for evaluation."""
        if model not in self.made:
            torch.manual_seed(0)
            made, *transforms = open_clip.create_model_and_transforms(self.name(model))
            self.made[model] = (made.eval(), *transforms)
        return self.made[model]

    def on_device(self, model, dtype):
        """A copy on the device: on a card in `dtype` throughout, what open_clip calls pure_fp16."""
        return copy.deepcopy(self.get(model)[0]).to(device=DEVICE, dtype=dtype).eval()

    def train_parts(self, model):
        """A copy on the device in f32, open_clip's transform for training, and its tokenizer."""
        return self.on_device(model, torch.float32).train(), self.parts(model)[1], open_clip.get_tokenizer(self.name(model))


MODELS = Models()


def forget():
    """Gives the card's memory back between sections: the program under test plans with what is there."""
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()


def adamw(model, lr=5e-4):
    """open_clip's optimiser: decay on matrices only; fused, which its trainer does not do and which is faster."""
    bare = [p for p in model.parameters() if p.ndim < 2]
    rest = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": bare, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.2}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


def train_step(model, loss, optimiser, images, texts):
    """open_clip's step under `amp_bf16`; the loss, on the device."""
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        out = model(images, texts)
        image, text, scale = out[:3] if isinstance(out, tuple) else (out["image_features"], out["text_features"], out["logit_scale"])
        value = loss(image, text, scale)
    value.backward()
    optimiser.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return value.detach()
