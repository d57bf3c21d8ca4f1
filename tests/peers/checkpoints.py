"""open_clip's trainer, loader and features beside this program's, run as their users run them.

Peer: open_clip_torch (open_clip_train with pandas), torch, pyarrow. Usage:
    checkpoints.py make FOLDER            pictures, a shard, class folders; a tiny model trained by `python -m open_clip_train.main`
    checkpoints.py features FOLDER WEIGHTS RUN    our embeddings in RUN against open_clip's features under WEIGHTS
    checkpoints.py top1 FOLDER WEIGHTS            open_clip's zero-shot accuracy on the class folders, in percent
    checkpoints.py again FOLDER WEIGHTS OUT       loads WEIGHTS by open_clip and saves its state_dict
    checkpoints.py resume FOLDER EPOCH MOMENTS    open_clip's trainer resumes from EPOCH, whose moments are those of MOMENTS
    checkpoints.py recipe FOLDER STEPS FLAG..     a shard of one batch, weights in start.pt, and open_clip's trainer on both for so many steps
    checkpoints.py compare FOLDER RUN             our steps in RUN against those
"""

import glob
import io
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import open_clip
import torch
from PIL import Image

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
CLASSES = ("ash", "birch", "cedar")


def picture(n):
    rng = np.random.default_rng(n)
    y, x = np.mgrid[0:40, 0:48]
    base = np.stack([x * 5 + n * 40, y * 6, x * y + n * 70], -1) % 256
    return Image.fromarray((base + rng.integers(0, 30, base.shape)).clip(0, 255).astype("u1"))


def lay_out(folder, picture, caption):
    """The model's configuration, and twelve samples as open_clip reads them and as a shard."""
    os.makedirs(f"{folder}/model")
    json.dump(TINY, open(f"{folder}/tiny.json", "w"))
    json.dump({"model_cfg": TINY, "preprocess_cfg": {}}, open(f"{folder}/model/open_clip_config.json", "w"))
    rows = ["filepath\ttitle"]
    with tarfile.open(f"{folder}/shard.tar", "w") as tar:
        for n in range(12):
            label = CLASSES[n % 3]
            os.makedirs(f"{folder}/data/{label}", exist_ok=True)
            path = f"{folder}/data/{label}/{n:03}.png"
            picture(n).save(path)
            rows.append(f"{path}\t{caption(n)}")
            for name, data in ((f"{n:03}.png", open(path, "rb").read()), (f"{n:03}.txt", caption(n).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    open(f"{folder}/train.csv", "w").write("\n".join(rows) + "\n")


def make(folder):
    lay_out(folder, picture, lambda n: f"a photo of a {CLASSES[n % 3]}")
    said = train(folder, "run", 1)
    assert os.path.exists(f"{folder}/logs/run/checkpoints/epoch_1.pt"), said
    model, _ = load(folder, f"{folder}/logs/run/checkpoints/epoch_1.pt")
    notes = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save({**model.state_dict(), **notes}, f"{folder}/openai.pt")
    with torch.no_grad():
        traced = torch.jit.trace(model, (torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long)))
    traced.save(f"{folder}/traced.pt")


def train(folder, name, epochs, *more):
    words = f"--dataset-type csv --model local-dir:model --batch-size 4 --epochs {epochs} --workers 0 --precision fp32"
    words += f" --warmup 1 --lr 1e-2 --device cpu --logs logs --name {name} --train-data train.csv"
    command = [sys.executable, "-m", "open_clip_train.main", *words.split(), *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


def load(folder, weights):
    open_clip.add_model_config(f"{folder}/tiny.json")
    model, _, preprocess = open_clip.create_model_and_transforms("tiny", pretrained=weights)
    return model.eval(), preprocess


def features(folder, weights, run):
    import pyarrow.ipc as ipc

    model, preprocess = load(folder, weights)
    ours = {}
    for part in glob.glob(f"{run}/embeddings/*.arrow"):
        table = ipc.open_file(part).read_all()
        ours.update(zip(table["key"].to_pylist(), np.array(table["embedding"].to_pylist(), "f8")))
    assert len(ours) == 12, sorted(ours)
    for n in range(12):
        with torch.no_grad():
            theirs = model.encode_image(preprocess(picture(n))[None], normalize=True)[0].numpy()
        distance = abs(ours[f"{n:03}"] - theirs).max()
        assert distance < 5e-4, f"{n}: {distance}"  # f16 of values below 1


def top1(folder, weights):
    model, preprocess = load(folder, weights)
    with torch.no_grad():
        text = open_clip.get_tokenizer("tiny")([f"a photo of a {label}." for label in CLASSES])
        text = model.encode_text(text, normalize=True)
        images = torch.stack([preprocess(picture(n)) for n in range(12)])
        guesses = (model.encode_image(images, normalize=True) @ text.T).argmax(-1)
    print(100 * (guesses == torch.arange(12) % 3).float().mean().item())


def again(folder, weights, out):
    torch.save(load(folder, weights)[0].state_dict(), out)


def resume(folder, epoch, moments):
    from safetensors.torch import load_file

    checkpoint, moments, named = torch.load(epoch), load_file(moments), list(load(folder, epoch)[0].named_parameters())
    exempt = lambda n, p: p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n  # as in open_clip_train
    groups = [[(n, p) for n, p in named if exempt(n, p)], [(n, p) for n, p in named if not exempt(n, p)]]
    optimizer = torch.optim.AdamW([{"params": [p for _, p in group]} for group in groups])
    optimizer.load_state_dict(checkpoint["optimizer"])
    for name, parameter in named:
        for kind in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[parameter][kind], moments[f"{kind}.{name}"]), f"{kind}.{name}"
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.2]
    said = train(folder, "resumed", 2, "--resume", epoch)
    assert f"=> resuming checkpoint '{epoch}' (epoch 1)" in said and os.path.exists(f"{folder}/logs/resumed/checkpoints/epoch_2.pt"), said


def recipe(folder, steps, *flags):
    # Pictures of one colour, whose crops are all alike; and one batch, so that a step is an epoch and the order inside tells nothing.
    def plain(n):
        return Image.new("RGB", (40, 40), (n * 97 % 256, n * 57 % 256, n * 31 % 256))

    lay_out(folder, plain, lambda n: f"{n} {CLASSES[n % 3]} trees" + " in a row" * (n % 4))
    open_clip.add_model_config(f"{folder}/tiny.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny").state_dict(), f"{folder}/start.pt")
    whole = ["--batch-size", "12", "--resume", "start.pt"]
    said = train(folder, "recipe", int(steps), *whole, "--report-to", "tensorboard", "--log-every-n-steps", "1", *flags)
    assert "=> loaded checkpoint 'start.pt' (epoch 0)" in said, said
    assert os.path.exists(f"{folder}/logs/recipe/checkpoints/epoch_{steps}.pt"), said


def compare(folder, run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def logged(tag):
        events = EventAccumulator(f"{folder}/logs/recipe/tensorboard")
        events.Reload()
        theirs = [event.value for event in events.Scalars(tag)]
        ours = [json.loads(line)[tag] for line in open(f"{run}/logs/metrics.jsonl")]
        assert len(ours) == len(theirs), (ours, theirs)
        return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))

    def far(a, b):
        return ((a - b).abs().max() / b.abs().max().clamp(min=1e-3)).item()

    steps = len(glob.glob(f"{folder}/logs/recipe/checkpoints/epoch_*.pt"))
    theirs = torch.load(f"{folder}/logs/recipe/checkpoints/epoch_{steps}.pt", weights_only=True)
    ours = torch.load(f"{run}/checkpoints/epoch_latest.pt", weights_only=True)
    start = torch.load(f"{folder}/start.pt", weights_only=True)
    a, b = ours["optimizer"], theirs["optimizer"]
    for of_ours, of_theirs in zip(a["param_groups"], b["param_groups"], strict=True):
        for name in ("params", "betas", "eps", "weight_decay"):
            assert of_ours[name] == of_theirs[name], (name, of_ours[name], of_theirs[name])
    out = {tag: logged("train/" + tag) for tag in ("loss", "scale", "lr")}
    out["weights"] = max(far(ours["state_dict"][k], v) for k, v in theirs["state_dict"].items())
    for kind in ("exp_avg", "exp_avg_sq"):
        out[kind] = max(((a["state"][i][kind] - s[kind]).abs().max() / s[kind].abs().max()).item() for i, s in b["state"].items())
    out["moved"] = min(far(start[k], v) for k, v in theirs["state_dict"].items())
    print(json.dumps(out))


torch.set_num_threads(1)
globals()[sys.argv[1]](*sys.argv[2:])
