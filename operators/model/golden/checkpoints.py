"""Weights in the forms that torch, open_clip and their users leave behind, and what open_clip's own `load_checkpoint`
makes of each. Peer: open_clip_torch, torch. Usage: checkpoints.py FOLDER; prints one JSON line a file. Of them open_clip's own trainer
writes epoch.pt; the others are variants of it and of a state_dict, made by hand."""

import argparse
import collections
import json
import os
import shutil
import sys
import warnings
import zipfile

import numpy as np
import open_clip
import torch
from open_clip.factory import load_checkpoint
from safetensors.torch import save_file

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../train/golden"))
from trainer import known, train  # noqa: E402

out = sys.argv[1]
SMALL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "patch_size": 4, "head_width": 8},
    "text_cfg": {"context_length": 7, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1},
}


def config(image_size=16, context_length=7):
    copy = json.loads(json.dumps(SMALL))
    copy["vision_cfg"]["image_size"] = image_size
    copy["text_cfg"]["context_length"] = context_length
    return copy


def build(of, kind=open_clip.CLIP, seed=0):
    torch.manual_seed(seed)
    return kind(**of).eval()


model = build(SMALL)
state = model.state_dict()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
model.encode_text(torch.zeros(2, 7, dtype=torch.long)).sum().backward()
optimizer.step()
model = build(SMALL)
state = model.state_dict()
# The names of a run of several processes.
ddp = collections.OrderedDict(("module." + name, tensor) for name, tensor in state.items())
flat = torch.cat([tensor.reshape(-1) for tensor in state.values()])
views, at = {}, 0
for name, tensor in state.items():
    views[name] = flat[at : at + tensor.numel()].view(tensor.shape)
    at += tensor.numel()


def strided(tensor):
    """The same values as every second element of every third column."""
    if tensor.dim() != 2:
        return tensor
    wide = torch.full((2 * tensor.shape[0], 3 * tensor.shape[1]), 7.0)
    wide[::2, ::3] = tensor
    return wide[::2, ::3]


class Hostile:
    def __reduce__(self):
        return (os.mkdir, (os.path.join(out, "ran"),))


def lines(name, of=None, loads=None, refused=None):
    """`loads`: what load_checkpoint is given in the file's place, where it does not read the file itself."""
    of = of or SMALL
    line = {"file": name, "config": of, "refused": refused}
    if refused is None:
        fresh = build(of, seed=99)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_checkpoint(fresh, os.path.join(out, loads or name))
        line["expected"] = name + ".expected.safetensors"
        save_file({k: v.contiguous() for k, v in fresh.state_dict().items()}, os.path.join(out, line["expected"]))
    print(json.dumps(line))


def save(name, value, of=None, loads=None, refused=None, **options):
    torch.save(value, os.path.join(out, name), **options)
    lines(name, of, loads, refused)


save("state_dict.pt", state)
save("keep_vars.pt", model.state_dict(keep_vars=True))
save("parameters.pt", dict(model.named_parameters()))
known(out, "small", SMALL)
words = ["--model", "small", "--epochs", "1", "--warmup", "1", "--precision", "fp32"]
train(out, "trained", [(torch.rand(2, 3, 16, 16), torch.arange(14).reshape(2, 7))], words)
os.rename(os.path.join(out, "trained/checkpoints/epoch_1.pt"), os.path.join(out, "epoch.pt"))
lines("epoch.pt")
save("ddp.pt", {"epoch": 1, "name": "run", "state_dict": ddp, "optimizer": optimizer.state_dict(),
                "scaler": {"scale": 65536.0, "growth_tracker": 3}})
save("ema.pt", {"epoch": 1, "state_dict_ema": build(SMALL, seed=5).state_dict(), "state_dict": ddp})
save("logit_scale.pt", {**state, "logit_scale": state["logit_scale"].reshape(1)})
save("half.pt", {name: tensor.half() for name, tensor in state.items()})
save("bfloat16.pt", {name: tensor.bfloat16() for name, tensor in state.items()})
save("double.pt", {name: tensor.double() for name, tensor in state.items()})
save("others.pt", {"shape": torch.Size([1, 2]), "dtype": torch.float16, "device": torch.device("cpu"), "done": {1, 2},
                   "raw": b"bytes", "large": 1 << 70, "state_dict": state})
save("scalar.pt", {"epoch": 1, "best": np.float64(0.5), "state_dict": ddp}, loads="state_dict.pt")
save("namespace.pt", {"args": argparse.Namespace(lr=1e-3, name="x"), "state_dict": state}, loads="state_dict.pt")
save("compiled.pt", {"state_dict": {"module._orig_mod." + name: tensor for name, tensor in state.items()}}, loads="state_dict.pt")
save("shared.pt", views)
save("strided.pt", {name: strided(tensor) for name, tensor in state.items()})
save("legacy.pt", state, _use_new_zipfile_serialization=False)
save("legacy_epoch.pt", {"epoch": 1, "state_dict": ddp, "optimizer": optimizer.state_dict()},
     _use_new_zipfile_serialization=False)
save("legacy_views.pt", views, _use_new_zipfile_serialization=False)
for protocol in (3, 4, 5):
    save(f"protocol{protocol}.pt", state, pickle_protocol=protocol, loads="state_dict.pt")
custom = build(SMALL, open_clip.CustomTextCLIP, seed=3)
torch.save({k.removeprefix("text."): v for k, v in custom.state_dict().items()}, os.path.join(out, "of_custom.pt"))
save("custom_text.pt", custom.state_dict(), loads="of_custom.pt")
for size, length in ((24, 7), (8, 7), (16, 11), (16, 4), (32, 5)):
    save(f"resized_{size}_{length}.pt", state, of=config(size, length))
save("resized_half.pt", {"state_dict": {n: t.half() if "pos" not in n else t for n, t in state.items()}}, of=config(24, 9))
with torch.no_grad():
    traced = torch.jit.trace(model, (torch.zeros(1, 3, 16, 16), torch.zeros(1, 7, dtype=torch.long)))
traced.save(os.path.join(out, "traced.pt"))
lines("traced.pt", loads="state_dict.pt")

save("bias.pt", {**state, "logit_bias": torch.tensor(-10.0)}, refused="logit_bias is not the model's")
save("whole.pt", model, refused="open_clip.model.CLIP")
save("another_key.pt", {"model": state}, refused="it holds model")
save("optimizer.pt", optimizer.state_dict(), refused="it holds state, param_groups")
save("hostile.pt", {"state_dict": state, "x": Hostile()}, refused=f"{os.mkdir.__module__}.mkdir")
save("longs.pt", {**state, "ln_final.bias": torch.ones(8, dtype=torch.long)}, refused="ln_final.bias holds elements of 8 bytes")
save("no_square.pt", {**state, "visual.positional_embedding": torch.zeros(12, 16)}, refused="has shape [12, 16]")


def again(name, source, refused, compression=zipfile.ZIP_STORED, **replaced):
    """The archive `source` once more, entries replaced."""
    with zipfile.ZipFile(os.path.join(out, source)) as old, zipfile.ZipFile(os.path.join(out, name), "w", compression) as new:
        for entry in old.namelist():
            new.writestr(entry, replaced.get(os.path.basename(entry), old.read(entry)))
    lines(name, refused=refused)


again("big.pt", "state_dict.pt", "big-endian", byteorder=b"big")
again("deflated.pt", "state_dict.pt", "compressed", zipfile.ZIP_DEFLATED)
shutil.copy(os.path.join(out, "state_dict.pt"), os.path.join(out, "cut.pt"))
os.truncate(os.path.join(out, "cut.pt"), 20_000)
lines("cut.pt", refused="cut off")
