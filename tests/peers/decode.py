"""Decoding and resizing peer: pictures of all kinds made by Pillow, what Pillow decodes from them, and random resizes.

usage: decode.py OUT [FOLDER]     FOLDER: more pictures, compared too
writes OUT/pictures/*             the pictures made
       OUT/index.tsv              path, kind, mode, width, height, file of RGB bytes; kind "-" where Pillow refuses
       OUT/resizes.tsv            source file, its width and height, crop, size, window (left top width height each), filter,
                                  file of the result: rows first, then columns
TROMMEL_FUZZ_JPEGS says how many JPEGs are drawn at random beside the stated ones, 300 unless it is set.
Checks on its own that one call of Pillow's resize is rows first, or columns first by the rule of Pillow 13.
"""
import os
import random
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageFile

warnings.simplefilter("ignore")
# Noise with optimised tables is longer than the buffer that Pillow writes it into by itself.
ImageFile.MAXBLOCK = 1 << 22
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


def make_random_jpegs(count):
    """Every way in which Pillow writes a JPEG, drawn together with size, quality and content."""
    rng = random.Random(5)
    for number in range(count):
        size = int(2 ** rng.uniform(0, 8.2)), int(2 ** rng.uniform(0, 8.2))
        mode = rng.choice(["L", "RGB", "RGB", "RGB", "RGB", "CMYK"])
        noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
        if rng.random() < 0.3:
            pixels = noise[:, :, :len(mode)]
            image = Image.fromarray(pixels[:, :, 0] if mode == "L" else np.ascontiguousarray(pixels), mode)
        else:
            image = picture(size, mode, number)
        options = {"quality": rng.choice([1, 10, 30, 50, 75, 85, 90, 95, 100]), "progressive": rng.random() < 0.4,
                   "optimize": rng.random() < 0.3}
        if mode == "RGB":
            options.update({"keep_rgb": True} if rng.random() < 0.1 else {"subsampling": rng.choice([0, 1, 2, 2])})
        restart = rng.choice([None, None, "restart_marker_blocks", "restart_marker_rows"])
        if restart:
            options[restart] = rng.randint(1, 9)
        if rng.random() < 0.2:
            options["qtables"] = [[rng.randint(1, 255) for _ in range(64)] for _ in range(2)]
        if rng.random() < 0.2:
            options["comment"] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 300)))
        image.save(MADE / f"random{number}_{mode}.jpg", **options)


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
        tiffs(w, h, seed)
        bits.save(MADE / f"bits_{w}x{h}.pbm")
        bits.save(MADE / f"bits_{w}x{h}.tif")
        deep = (photo(w, h, 1, seed)[:, :, 0].astype(np.uint16) * 3)
        Image.fromarray(deep).save(MADE / f"deep_{w}x{h}.png")
        Image.fromarray(deep).save(MADE / f"deep_{w}x{h}.tif")


def tiffs(w, h, seed):
    """Every mode that Pillow writes as TIFF, in every compression that it writes for it and that is read here."""
    rng = np.random.default_rng(seed)
    bands = lambda mode, count: Image.merge(mode, [Image.fromarray(photo(w, h, 1, seed + b)[:, :, 0].copy()) for b in range(count)])
    grey = picture((w, h), "L", seed)
    palette = grey.convert("P")
    palette.putpalette(rng.integers(0, 256, 768).astype("u1").tobytes())
    forms = {
        "1": grey.convert("1"), "L": grey, "LA": bands("LA", 2), "P": palette, "PA": palette.convert("PA"), "RGB": bands("RGB", 3),
        "RGBX": bands("RGBX", 4), "RGBA": bands("RGBA", 4), "CMYK": bands("CMYK", 4), "YCbCr": bands("YCbCr", 3),
        "I": Image.fromarray(rng.integers(-300, 600, (h, w)).astype("i4")), "I16": Image.fromarray(rng.integers(0, 600, (h, w)).astype("u2")),
        "I16B": Image.fromarray(rng.integers(0, 600, (h, w)).astype("u2")).convert("I;16B"),
        "F": Image.fromarray((rng.random((h, w)) * 400 - 50).astype("f4")),
    }
    for name, image in forms.items():
        packed = [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"]
        packed += ["group4"] if name == "1" else ["jpeg"] if name in ("L", "RGB", "RGBX", "RGBA", "CMYK", "YCbCr") else []
        for form in packed:
            strips = {} if form == "jpeg" else {"strip_size": w * 3}
            image.save(MADE / f"form{name}_{w}x{h}_{form}.tif", compression=form, **strips)
        if name != "I16B":
            image.save(MADE / f"form{name}_{w}x{h}_big.tif", big_tiff=True)
        if name in ("L", "RGB", "RGBA", "I16"):
            image.save(MADE / f"form{name}_{w}x{h}_predicted.tif", compression="tiff_lzw", tiffinfo={317: 2})
    # Forms that Pillow reads and does not write, by hand: tags, then the samples of every row, or of every row of each plane.
    for order in "<", ">":
        byte = rng.integers(0, 256, (6, h, w), dtype="u1")
        word = rng.integers(0, 65536, (4, h, w)).astype(order + "u2")
        colours = {bits: rng.integers(0, 65536, 3 << bits).astype(order + "u2") for bits in (1, 2, 4)}
        for bits in 1, 2, 4:
            row = -(-w * bits // 8)
            samples = rng.integers(0, 256, (h, row), dtype="u1").tobytes()
            for meaning in 0, 1, 3:
                for fill in (1,) if meaning == 3 else (1, 2):
                    more = {320: colours[bits]} if meaning == 3 else {}
                    by_hand(f"bits{bits}_{meaning}_{fill}", order, w, h, samples, {258: [bits], 262: [meaning], 266: [fill], **more})
        for name, planes, tags in (
            ("rgb8", byte[:3], {262: [2]}), ("inks", byte[:4], {262: [5]}), ("grey_alpha", byte[:2], {262: [1], 338: [2]}), ("white", byte[:1], {262: [0]}), ("signed8", byte[:1], {262: [1], 339: [2]}), ("luma", byte[:1], {262: [6]}),
            ("multiplied", byte[:4], {262: [2], 338: [1]}), ("odd_alpha", byte[:4], {262: [2], 338: [999]}), ("no_extra", byte[:4], {262: [2]}),
            ("five", byte[:5], {262: [2], 338: [0, 0]}), ("five_multiplied", byte[:5], {262: [2], 338: [1, 0]}), ("six", byte[:6], {262: [2], 338: [2, 0, 0]}),
            ("five_inks", byte[:5], {262: [5], 338: [0]}), ("six_inks", byte[:6], {262: [5], 338: [0, 0]}), ("grey_beside", byte[:2], {262: [1], 338: [0]}),
            ("rgb16", word[:3], {262: [2]}), ("rgba16", word[:4], {262: [2], 338: [2]}), ("multiplied16", word[:4], {262: [2], 338: [1]}),
            ("cmyk16", word[:4], {262: [5]}), ("grey16", word[:1], {262: [1]}), ("signed16", word[:1].view(order + "i2"), {262: [1], 339: [2]}),
            ("float", (word[:1].astype("f8") / 200 - 20).astype(order + "f4"), {262: [0], 339: [3]}),
        ):
            bits = planes.dtype.itemsize * 8
            tags = {258: [bits] * len(planes), 277: [len(planes)], **tags}
            by_hand(name, order, w, h, planes.transpose(1, 2, 0).tobytes(), tags)
            if name in ("rgb8", "no_extra", "inks"):
                by_hand(f"{name}_planes", order, w, h, planes.tobytes(), {**tags, 284: [2]}, len(planes))
        # Tiles that stand over the edges.
        tile, across, down = 16, -(-w // 16), -(-h // 16)
        wide = np.zeros((down * tile, across * tile, 3), "u1")
        wide[:h, :w] = byte[:3].transpose(1, 2, 0)
        tiles = [wide[y * tile : y * tile + tile, x * tile : x * tile + tile].tobytes() for y in range(down) for x in range(across)]
        by_hand("tiles", order, w, h, b"".join(tiles), {258: [8] * 3, 262: [2], 277: [3], 322: [tile], 323: [tile]}, len(tiles))


def by_hand(name, order, w, h, samples, tags, parts=1):
    tags = {256: [w], 257: [h], 258: [8], 259: [1], 277: [1], **tags}
    offsets, counts, rows = (324, 325, {}) if 322 in tags else (273, 279, {278: [h]})
    tags |= rows | {offsets: [0] * parts, counts: [len(samples) // parts] * parts}
    start = 8 + 2 + 12 * len(tags) + 4
    kinds = {tag: "I" if tag in (offsets, counts) else "H" for tag in tags}
    places, more = {}, b""
    for tag, values in sorted(tags.items()):
        length = struct.calcsize(f"={len(values)}{kinds[tag]}")
        if length > 4:
            places[tag] = start + len(more)
            more += bytes(length)
    tags[offsets] = [start + len(more) + part * len(samples) // parts for part in range(parts)]
    directory, beside = struct.pack(order + "H", len(tags)), bytearray(more)
    for tag, values in sorted(tags.items()):
        packed = struct.pack(order + f"{len(values)}{kinds[tag]}", *map(int, values))
        if tag in places:
            beside[places[tag] - start : places[tag] - start + len(packed)] = packed
            packed = struct.pack(order + "I", places[tag])
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kinds[tag]], len(values)) + packed.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    file = magic + struct.pack(order + "I", 8) + directory + bytes(4) + bytes(beside) + samples
    (MADE / f"hand_{name}_{'LB'[order == '>']}_{w}x{h}.tif").write_bytes(file)


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
make_random_jpegs(int(os.environ.get("TROMMEL_FUZZ_JPEGS", 300)))
make_gifs()
make_others()
pictures = index([MADE, *sys.argv[2:]])
print(f"Pillow {PIL.__version__}: {pictures} pictures; {resizes(400)}")
