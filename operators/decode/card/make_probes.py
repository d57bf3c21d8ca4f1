"""The pictures of `probes/`, which a card is compared with the CPU by: python make_probes.py (Pillow 13, numpy).

4:4:0 and 4:1:1 are the scans of 4:2:2 and 4:2:0 under other sampling factors: as many blocks a unit, and as many units.
"""
import struct
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).parent / "probes"


def photo(width, height, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = [127 + 120 * np.sin(x / (3 + 4 * c) + y / (7 + 2 * c)) + 70 * (x > y) - 60 * (x + y < 20) for c in range(3)]
    noise = rng.normal(0, 12, (height, width, 3)) * (y > height / 2)[:, :, None]
    return Image.fromarray(np.clip(np.stack(planes, axis=2) + noise, 0, 255).astype(np.uint8))


def relabelled(data, luma, size):
    data = bytearray(data)
    at = data.index(b"\xff\xc0") + 5
    struct.pack_into(">HH", data, at, size[1], size[0])
    data[at + 6] = luma
    return bytes(data)


def save(name, image, **options):
    path = OUT / f"{name}_{image.width}x{image.height}.jpg"
    image.save(path, **options)
    return path


for size, quality in [((61, 47), 75), ((40, 30), 100), ((150, 101), 85)]:
    image = photo(*size, size[0])
    large = size == (150, 101)
    save("444", image, quality=quality, subsampling=0)
    save("420", image, quality=quality, subsampling=2)
    if large:
        continue
    save("grey", image.convert("L"), quality=quality)
    path = save("422", image, quality=quality, subsampling=1)
    # 4:2:2 has units of 16 x 8, 4:4:0 of 8 x 16: width and height change places.
    (OUT / f"440_{size[1]}x{size[0]}.jpg").write_bytes(relabelled(path.read_bytes(), 0x12, size[::-1]))
    # 4:2:0 has units of 16 x 16, 4:1:1 of 32 x 8.
    wide = (size[0] * 2, size[1] // 2)
    (OUT / f"411_{wide[0]}x{wide[1]}.jpg").write_bytes(relabelled((OUT / f"420_{size[0]}x{size[1]}.jpg").read_bytes(), 0x41, wide))
