"""open_clip's zero-shot, picture by picture: its own classifier of many templates, on class folders.

Peer: open_clip_torch (its trainer, open_clip_train.main, and its `zero_shot_eval`), scikit-learn. Usage: zero_shot.py FOLDERS OUT
FOLDERS/CLASS/PICTURE; classes in the order of their names. Writes
  OUT/tiny.json, OUT/weights.pt   a small model of open_clip's, and the checkpoint of its trainer on these pictures, so that it guesses every class
  OUT/templates.txt               open_clip's 80 templates for ImageNet
  OUT/some, OUT/table.tsv         all classes but three, under numbers; a table of the numbers of all, with other names than the folders'
  OUT/guesses.json                set -> key of a picture -> [first guess, whether it is among the first five], and the shares as it counts them
"""
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import open_clip
import open_clip_train.zero_shot as zero_shot
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from open_clip_train.data import get_imagenet
from open_clip_train.main import main as train
from sklearn.metrics import balanced_accuracy_score

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
folders, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
classes = sorted(path.name for path in folders.iterdir() if path.is_dir())
torch.set_num_threads(1)
# open_clip 3.3.0 counts by an array of one element, which numpy 2.4 no longer takes for a number.
zero_shot.float = lambda counted: counted.item()
(out / "tiny.json").write_text(json.dumps(TINY))
open_clip.add_model_config(out / "tiny.json")
rows = [f"{file}\ta photo of a {name}." for name in classes for file in sorted((folders / name).iterdir())]
(out / "train.csv").write_text("\n".join(["filepath\ttitle", *rows]) + "\n")
words = "--dataset-type csv --model tiny --batch-size 64 --epochs 4 --workers 0 --precision fp32 --lr 1e-3 --lr-scheduler const --warmup 1"
train([*words.split(), "--train-data", str(out / "train.csv"), "--device", "cpu", "--logs", str(out / "logs"), "--name", "run"])
os.rename(out / "logs/run/checkpoints/epoch_4.pt", out / "weights.pt")
model, _, preprocess = open_clip.create_model_and_transforms("tiny", pretrained=str(out / "weights.pt"))
model.eval()
(out / "templates.txt").write_text("".join(template("{}") + "\n" for template in OPENAI_IMAGENET_TEMPLATES))

names = [f"small {name} ({at})" for at, name in enumerate(classes)]
(out / "table.tsv").write_text("".join(f"{at}\t{name}\n" for at, name in enumerate(names)))
(out / "some").mkdir()
some = [at for at in range(len(classes)) if at not in (0, 4, 5)]
for at in some:
    os.symlink(folders / classes[at], out / "some" / str(at), target_is_directory=True)


def judge(root, names):
    """The pictures and the classes of `root` in the place of ImageNet's."""
    args = SimpleNamespace(
        imagenet_val=root, batch_size=64, workers=0, device="cpu", precision="fp32", zeroshot_frequency=1, epochs=1, distributed=False,
    )
    data, seen, accuracy = get_imagenet(args, (None, preprocess), "val"), [], zero_shot.accuracy

    def noted(logits, target, topk=(1,)):
        seen.extend(zip(logits, target))
        return accuracy(logits, target, topk)

    zero_shot.IMAGENET_CLASSNAMES, zero_shot.accuracy = names, noted
    found = zero_shot.zero_shot_eval(model, {"imagenet-val": data}, 1, args, tokenizer=open_clip.get_tokenizer("tiny"))
    zero_shot.accuracy = accuracy
    guesses, first, labels = {}, [], []
    for (logits, target), (path, label) in zip(seen, data.dataloader.dataset.samples, strict=True):
        assert label == target
        first.append(next(at for at in range(len(names)) if accuracy(logits[None], torch.tensor([at]))[0]))
        labels.append(label)
        guesses["/".join(Path(path).parts[-2:])] = [first[-1], bool(accuracy(logits[None], target[None], (5,))[0])]
    shares = {name: found[f"imagenet-zeroshot-val-{name}"] for name in ("top1", "top5")}
    return {"guesses": guesses, **shares, "mean_per_class": float(balanced_accuracy_score(labels, first))}


sets = {"all": judge(folders, classes), "some": judge(out / "some", [names[at] for at in some])}
(out / "guesses.json").write_text(json.dumps(sets))
for name, found in sets.items():
    kinds = len({guess for guess, _ in found["guesses"].values()})
    print(f"{name}: {len(found['guesses'])} pictures, top-1 {found['top1']:.4f}, top-5 {found['top5']:.4f}, {kinds} classes guessed")
