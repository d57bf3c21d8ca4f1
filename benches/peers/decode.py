"""Photos of 400 x 350, and how fast open_clip's evaluation transform and Pillow alone read them on one thread.

Usage: decode.py FOLDER. Writes FOLDER/NNN.jpg (COCO's photos from TROMMEL_TEST_DATA, else noise of photos' frequencies; quality 90, 4:2:0) and says
"ready"; then answers each line "transform SECONDS" or "pillow SECONDS" with pictures a second.
"""
import glob, io, os, pathlib, sys, tarfile, time
import numpy as np
import torch
from open_clip.transform import image_transform
from PIL import Image

torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])


def photos():
    for path in sorted(glob.glob(os.environ.get("TROMMEL_TEST_DATA", "") + "/shards/coco/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    yield Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
    rng = np.random.default_rng(1)
    while True:
        layers = [Image.fromarray(rng.integers(0, 256, (side, side, 3)).astype("u1")).resize((400, 350), Image.BICUBIC) for side in (5, 20, 90)]
        yield Image.fromarray(np.mean([np.asarray(layer, "f4") for layer in layers], 0).astype("u1"))


files = []
for number, photo in zip(range(60), photos()):
    to = io.BytesIO()
    photo.resize((400, 350), Image.BICUBIC).save(to, "JPEG", quality=90)
    files.append(to.getvalue())
    (folder / f"{number:03}.jpg").write_bytes(files[-1])
preprocess = image_transform(224, is_train=False)
work = {
    "transform": lambda data: preprocess(Image.open(io.BytesIO(data))),
    "pillow": lambda data: Image.open(io.BytesIO(data)).load(),
}
print("ready", flush=True)
for line in sys.stdin:
    name, seconds = line.split()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < float(seconds):
        for data in files:
            work[name](data)
        done += len(files)
    print(done / (time.perf_counter() - started), flush=True)
