"""Writes resize.txt: checksums of Pillow's crop, resize, crop on pictures made by a formula.

Byte i of a picture with seed s is the top byte of SplitMix64's finaliser of (s << 32) + i; kind "edge" turns it into 0 or
255. The checksum is FNV-1a of 64 bits over the result's RGB bytes.

    python make_resize.py > resize.txt
"""
import random
import numpy as np
import PIL
from PIL import Image

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def picture(seed, width, height, kind):
    z = np.arange(width * height * 3, dtype=np.uint64) + np.uint64(seed << 32)
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    pixels = (z >> np.uint64(56)).astype(np.uint8)
    if kind == "edge":
        pixels = np.where(pixels < 128, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels.reshape(height, width, 3), "RGB")


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) % (1 << 64)
    return h


def main():
    rng = random.Random(7)
    print(f"# make_resize.py, Pillow {PIL.__version__}")
    print("# seed kind width height crop(left top width height) to(width height) window(left top width height) filter fnv1a")
    sizes = [(1, 1, 1, 1), (1, 1, 9, 4), (2, 3, 224, 17), (37, 91, 24, 24), (400, 350, 256, 224), (333, 500, 224, 336),
             (640, 480, 320, 240), (100, 100, 100, 100), (224, 300, 224, 224), (3, 700, 5, 50), (1500, 4, 16, 16)]
    cases = sizes + [tuple(int(2 ** rng.uniform(0, 8.5)) for _ in range(4)) for _ in range(29)]
    for seed, (w, h, ow, oh) in enumerate(cases):
        kind = "edge" if seed % 3 == 0 else "noise"
        crop, window = (0, 0, w, h), (0, 0, ow, oh)
        if seed % 2 == 1:
            cw, ch = rng.randint(1, w), rng.randint(1, h)
            crop = (rng.randint(0, w - cw), rng.randint(0, h - ch), cw, ch)
            vw, vh = rng.randint(1, ow), rng.randint(1, oh)
            window = (rng.randint(0, ow - vw), rng.randint(0, oh - vh), vw, vh)
        name = "bilinear" if seed % 5 == 4 else "bicubic"
        image = picture(seed, w, h, kind)
        box = lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3])
        # Rows first, then columns, each a call of its own: Pillow's order up to 12; 13.0.0 turns it round where more rows go than
        # twice the columns.
        rows = image.crop(box(crop)).resize((ow, crop[3]), FILTERS[name])
        out = rows.resize((ow, oh), FILTERS[name]).crop(box(window))
        fields = [seed, kind, w, h, *crop, ow, oh, *window, name, f"{fnv(out.tobytes()):016x}"]
        print(*fields)


main()
