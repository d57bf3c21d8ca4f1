"""open_clip's zero-shot, picture by picture: its own classifier of many templates, on class folders.

Peer: open_clip_torch. Usage: zero_shot.py FOLDERS OUT
FOLDERS/CLASS/PICTURE; classes in the order of their names. Writes
  OUT/tiny.json, OUT/weights.pt   a small model of open_clip's, trained for some steps on these pictures, so that it guesses every class
  OUT/templates.txt               open_clip's 80 templates for ImageNet
  OUT/some, OUT/table.tsv         all classes but three, under numbers; a table of the numbers of all, with other names than the folders'
  OUT/guesses.json                set -> key of a picture -> [first guess, whether it is among the first five], and the shares as it counts them
"""
import json
import os
import sys
from pathlib import Path

import open_clip
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES, build_zero_shot_classifier
from PIL import Image

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
folders, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
classes = sorted(path.name for path in folders.iterdir() if path.is_dir())
torch.set_num_threads(1)
torch.manual_seed(0)
(out / "tiny.json").write_text(json.dumps(TINY))
open_clip.add_model_config(out / "tiny.json")
model, _, preprocess = open_clip.create_model_and_transforms("tiny")
pictures = [(file, name) for name in classes for file in sorted((folders / name).iterdir())]
views = torch.stack([preprocess(Image.open(file)) for file, _ in pictures])
tokenizer = open_clip.get_tokenizer("tiny")
captions = tokenizer([f"a photo of a {name}." for _, name in pictures])
optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-3), open_clip.ClipLoss()
for step in range(60):
    some = torch.randperm(len(pictures))[:64]
    optimizer.zero_grad()
    loss(*model(views[some], captions[some])).backward()
    optimizer.step()
model.eval()
torch.save(model.state_dict(), out / "weights.pt")
(out / "templates.txt").write_text("".join(template("{}") + "\n" for template in OPENAI_IMAGENET_TEMPLATES))

names = [f"small {name} ({at})" for at, name in enumerate(classes)]
(out / "table.tsv").write_text("".join(f"{at}\t{name}\n" for at, name in enumerate(names)))
(out / "some").mkdir()
some = [at for at in range(len(classes)) if at not in (0, 4, 5)]
for at in some:
    os.symlink(folders / classes[at], out / "some" / str(at), target_is_directory=True)


def judge(root, subfolders, names):
    classifier = build_zero_shot_classifier(model, tokenizer, names, OPENAI_IMAGENET_TEMPLATES, num_classes_per_batch=5, device="cpu")
    guesses, right, among, per_class = {}, 0, 0, []
    for label, folder in enumerate(subfolders):
        files = sorted((root / folder).iterdir())
        with torch.no_grad():
            features = model.encode_image(torch.stack([preprocess(Image.open(file)) for file in files]), normalize=True)
        best = (features @ classifier).topk(min(5, len(names))).indices.tolist()
        for file, found in zip(files, best):
            guesses[f"{folder}/{file.name}"] = [found[0], label in found]
        hits = sum(found[0] == label for found in best)
        right, among = right + hits, among + sum(label in found for found in best)
        per_class.append(hits / len(files))
    count = len(guesses)
    return {"guesses": guesses, "top1": right / count, "top5": among / count, "mean_per_class": sum(per_class) / len(per_class)}


sets = {"all": judge(folders, classes, classes), "some": judge(out / "some", [str(at) for at in some], [names[at] for at in some])}
(out / "guesses.json").write_text(json.dumps(sets))
for name, found in sets.items():
    kinds = len({guess for guess, _ in found["guesses"].values()})
    print(f"{name}: {len(found['guesses'])} pictures, top-1 {found['top1']:.4f}, top-5 {found['top5']:.4f}, {kinds} classes guessed")
