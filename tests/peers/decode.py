"""Decoding and resizing peer: pictures of all kinds made by Pillow, what Pillow decodes from them, and random resizes.

usage: decode.py OUT [FOLDER]     FOLDER: more pictures, compared too
writes OUT/pictures/*             the pictures made
       OUT/index.tsv              path, kind, mode, width, height, file of RGB bytes; kind "-" where Pillow refuses
       OUT/resizes.tsv            source file, its width and height, crop, size, window (left top width height each), filter,
                                  file of the result: rows first, then columns
Checks on its own that one call of Pillow's resize is rows first, or columns first by the rule of Pillow 13.
"""
import random
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

warnings.simplefilter("ignore")
OUT = Path(sys.argv[1])
MADE = OUT / "pictures"
SIZES = [(1, 1), (2, 3), (7, 5), (16, 16), (17, 33), (64, 48), (227, 149)]


def photo(width, height, channels, seed):
    """Waves, an edge and a little noise: something for every frequency."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = [127 + 90 * np.sin(x / (5 + 7 * c) + y / (11 + 3 * c)) + 40 * (x > y) for c in range(channels)]
    picture = np.stack(planes, axis=2) + rng.normal(0, 4, (height, width, channels))
    return np.clip(picture, 0, 255).astype(np.uint8)


def picture(size, mode, seed):
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = photo(*size, channels, seed)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, mode)


def frame_header(data):
    """Where a JPEG's height stands."""
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return at + 5


def resampled(path, luma, size):
    """The same scan under other sampling factors, of which the blocks in a unit and the units are as many."""
    data = bytearray(path.read_bytes())
    at = frame_header(data)
    struct.pack_into(">HH", data, at, size[1], size[0])
    data[at + 6] = luma
    return bytes(data)


def make_jpegs():
    for seed, (w, h) in enumerate(SIZES):
        for mode in ("L", "RGB", "CMYK"):
            for progressive in (False, True):
                for quality in (60, 95):
                    samplings = (0, 1, 2) if mode == "RGB" else (0,)
                    for sampling in samplings:
                        name = f"{mode}_{w}x{h}_s{sampling}_q{quality}{'_p' if progressive else ''}.jpg"
                        picture((w, h), mode, seed).save(
                            MADE / name, quality=quality, subsampling=sampling, progressive=progressive)
        picture((w, h), "RGB", seed).save(MADE / f"stored_rgb_{w}x{h}.jpg", quality=90, keep_rgb=True)
        picture((w, h), "RGB", seed).save(MADE / f"restart_{w}x{h}.jpg", quality=80, restart_marker_blocks=2)
        cmyk = bytearray((MADE / f"CMYK_{w}x{h}_s0_q95.jpg").read_bytes())
        cmyk[cmyk.index(b"Adobe") + 11] = 2
        (MADE / f"ycck_{w}x{h}.jpg").write_bytes(cmyk)
    for w, h in [(64, 48), (32, 16), (80, 160)]:
        for progressive in (False, True):
            end = "_p.jpg" if progressive else ".jpg"
            for sampling in (1, 2):
                picture((w, h), "RGB", w).save(
                    OUT / f"{sampling}{end}", quality=92, subsampling=sampling, progressive=progressive)
            if not progressive:  # A progressive scan counts its blocks by component, so that these would not fit.
                (MADE / f"440_{h}x{w}{end}").write_bytes(resampled(OUT / f"1{end}", 0x12, (h, w)))
                (MADE / f"411_{w * 2}x{h // 2}{end}").write_bytes(resampled(OUT / f"2{end}", 0x41, (w * 2, h // 2)))


def gif_frame(data):
    """Where a GIF's first picture begins."""
    at = 13 + ((3 << ((data[10] & 7) + 1)) if data[10] & 128 else 0)
    while data[at] == 0x21:
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    assert data[at] == 0x2C
    return at


def make_gifs():
    plain = picture((40, 30), "RGB", 1)
    few = plain.quantize(11)
    few.info.pop("transparency", None)
    for name, image, options in [("grey", picture((40, 30), "L", 2), {}), ("palette", few, {}),
                                 ("interlaced", few, {"interlace": 1}), ("clear", few, {"transparency": 5})]:
        path = MADE / f"{name}.gif"
        image.save(path, **options)
        for screen, offset in [((50, 41), (0, 0)), ((50, 41), (7, 4)), ((30, 20), (0, 0)), ((40, 30), (9, 0)),
                               ((0, 0), (0, 0)), ((60, 30), (20, 0))]:
            data = bytearray(path.read_bytes())
            struct.pack_into("<HH", data, 6, *screen)
            struct.pack_into("<HH", data, gif_frame(data) + 1, *offset)
            (MADE / f"{name}_{screen[0]}x{screen[1]}_{offset[0]}_{offset[1]}.gif").write_bytes(data)


def make_others():
    for seed, (w, h) in enumerate(SIZES):
        for mode in ("L", "LA", "RGB", "RGBA"):
            image = picture((w, h), mode, seed)
            image.save(MADE / f"{mode}_{w}x{h}.png")
            if mode in ("RGB", "RGBA"):
                image.save(MADE / f"{mode}_{w}x{h}_lossless.webp", lossless=True, exact=True)
                image.save(MADE / f"{mode}_{w}x{h}.webp", quality=70)
            if mode != "LA":
                image.save(MADE / f"{mode}_{w}x{h}.bmp")
        rgb = picture((w, h), "RGB", seed)
        for colours in (2, 4, 16, 200):
            few = rgb.quantize(colours)
            few.save(MADE / f"palette{colours}_{w}x{h}.png", transparency=1)
            few.save(MADE / f"palette{colours}_{w}x{h}.bmp")
        bits = picture((w, h), "L", seed).convert("1")
        bits.save(MADE / f"bits_{w}x{h}.png")
        bits.save(MADE / f"bits_{w}x{h}.bmp")
        for mode, ends in (("L", "pgm"), ("RGB", "ppm")):
            image = picture((w, h), mode, seed)
            image.save(MADE / f"{mode}_{w}x{h}.{ends}")
            words = " ".join(map(str, image.tobytes()))
            (MADE / f"plain_{w}x{h}.{ends}").write_text(f"P{'23'[mode == 'RGB']}\n# a remark\n{w} {h}\n255\n{words}\n")
            few = bytes(value * 100 // 255 for value in image.tobytes())
            (MADE / f"hundred_{w}x{h}.{ends}").write_bytes(f"P{'56'[mode == 'RGB']} {w} {h} 100\n".encode() + few)
            wide = (np.asarray(image).astype(">u2") * 3).tobytes()
            (MADE / f"deep_{w}x{h}.{ends}").write_bytes(f"P{'56'[mode == 'RGB']} {w} {h} 65535\n".encode() + wide)
        for mode in ("L", "RGB", "RGBA", "CMYK"):
            for packed in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
                image = picture((w, h), mode, seed)
                name = {"CMYK": "ink"}.get(mode, mode)
                image.save(MADE / f"{name}_{w}x{h}_{packed}.tif", compression=packed)
        for turn in range(1, 9):
            picture((w, h), "RGB", seed).save(MADE / f"turned{turn}_{w}x{h}.tiff", tiffinfo={274: turn})
        bits.save(MADE / f"bits_{w}x{h}.pbm")
        bits.save(MADE / f"bits_{w}x{h}.tif")
        deep = (photo(w, h, 1, seed)[:, :, 0].astype(np.uint16) * 3)
        Image.fromarray(deep).save(MADE / f"deep_{w}x{h}.png")
        Image.fromarray(deep).save(MADE / f"deep_{w}x{h}.tif")


def index(folders):
    files = sorted(path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    (OUT / "rgb").mkdir()
    with open(OUT / "index.tsv", "w", encoding="utf-8") as lines:
        for number, path in enumerate(files):
            try:
                image = Image.open(path)
                kind = (image.format, image.mode)
                image.load()
                rgb = image.convert("RGB")
                (OUT / f"rgb/{number}").write_bytes(rgb.tobytes())
                print(path, *kind, *rgb.size, f"rgb/{number}", sep="\t", file=lines)
            except Exception:
                assert path.parent != MADE, path
                print(path, "-", "-", 0, 0, "-", sep="\t", file=lines)
    return len(files)


def columns_first(source, size):
    """Pillow 13: where more rows go than twice the columns. Before, never."""
    rows, columns = source[1] - size[1], source[0] - size[0]
    return int(PIL.__version__.split(".")[0]) >= 13 and rows > 0 and rows > 2 * columns


def resizes(cases):
    rng = random.Random(11)
    names = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    (OUT / "resized").mkdir()
    turned = differing = 0
    with open(OUT / "resizes.tsv", "w", encoding="utf-8") as lines:
        for number in range(cases):
            side = lambda top: int(2 ** rng.uniform(0, top))
            w, h, ow, oh = side(9.3), side(9.3), side(8.3), side(8.3)
            if number % 7 == 0:
                ow = w
            noise = np.random.default_rng(number).integers(0, 256, (h, w, 3), dtype=np.uint8)
            pixels = np.where(noise < 128, 0, 255).astype(np.uint8) if number % 3 == 0 else noise
            cw, ch = (w, h) if number % 2 else (rng.randint(1, w), rng.randint(1, h))
            crop = (rng.randint(0, w - cw), rng.randint(0, h - ch), cw, ch)
            vw, vh = rng.randint(1, ow), rng.randint(1, oh)
            window = (rng.randint(0, ow - vw), rng.randint(0, oh - vh), vw, vh)
            name = "bilinear" if number % 5 == 4 else "bicubic"
            box = lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3])
            source = Image.fromarray(pixels, "RGB").crop(box(crop))
            rows = source.resize((ow, ch), names[name]).resize((ow, oh), names[name])
            columns = source.resize((cw, oh), names[name]).resize((ow, oh), names[name])
            turn = columns_first((cw, ch), (ow, oh))
            at_once = source.resize((ow, oh), names[name])
            assert at_once.tobytes() == (columns if turn else rows).tobytes(), ((cw, ch), (ow, oh))
            turned += turn
            differing += at_once.tobytes() != rows.tobytes()
            (OUT / f"resized/{number}.in").write_bytes(pixels.tobytes())
            (OUT / f"resized/{number}.out").write_bytes(rows.crop(box(window)).tobytes())
            print(f"resized/{number}.in", w, h, *crop, ow, oh, *window, name, f"resized/{number}.out", sep="\t", file=lines)
    return f"{cases} resizes, columns first in {turned}, other pixels for that in {differing}"


MADE.mkdir()
make_jpegs()
make_gifs()
make_others()
pictures = index([MADE, *sys.argv[2:]])
print(f"Pillow {PIL.__version__}: {pictures} pictures; {resizes(400)}")
