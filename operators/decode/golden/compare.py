"""Compares our decoder with Pillow over a folder of pictures: which files each takes, and how far pixels are apart.

    TROMMEL_PEER_IN=DIR TROMMEL_PEER_OUT=OUT cargo test --release -p trommel-decode --lib tests::dump -- --ignored
    python compare.py DIR OUT
"""
import os
import sys
import warnings
import numpy as np
import PIL
from PIL import Image

warnings.simplefilter("ignore")
root, out = sys.argv[1:3]
print("Pillow", PIL.__version__)
same = both = neither = 0
for line in open(f"{out}/index.tsv"):
    name, state, a, b, number = line.rstrip("\n").split("\t")
    try:
        image = Image.open(os.path.join(root, name))
        kind = f"{image.format} {image.mode}"
        image.load()
        theirs = np.asarray(image.convert("RGB")).astype(int)
    except Exception as error:
        if state == "ok":
            print(f"only ours  {name}: Pillow {type(error).__name__} {error}")
        else:
            neither += 1
        continue
    if state != "ok":
        print(f"only Pillow {name} ({kind}): {a}")
        continue
    both += 1
    ours = np.fromfile(f"{out}/{number}.rgb", np.uint8).reshape(int(b), int(a), 3).astype(int)
    if ours.shape != theirs.shape:
        print(f"sizes      {name} ({kind}): {ours.shape} {theirs.shape}")
        continue
    apart = np.abs(ours - theirs)
    same += int(apart.max(initial=0) == 0)
    if apart.max(initial=0) > 0:
        print(f"pixels     {name} ({kind}): mean {apart.mean():.4f} max {apart.max()} on {100 * (apart > 0).mean():.2f} %")
print(f"both take {both}, of which equal {same}; neither takes {neither}")
