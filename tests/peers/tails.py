"""Pictures cut at every length, with markers and chunks of other kinds and odd ends, and what Pillow makes of each.

Usage: tails.py OUT. Writes OUT/pack (all files and pixels, end to end) and OUT/index.tsv: name, start and length of the
file in the pack, and for those that Pillow reads: width, height, start of the RGB pixels. A name is KIND/BASE/CHANGE.
"""
import io, pathlib, struct, sys, warnings, zlib
import numpy as np
from PIL import Image

warnings.simplefilter("ignore")
out = pathlib.Path(sys.argv[1])
pack, index, places = open(out / "pack", "wb"), [], {}


def stored(data):
    if data not in places:
        places[data] = pack.tell()
        pack.write(data)
    return places[data]


def ask(name, data):
    line = [name, stored(data), len(data)]
    try:
        image = Image.open(io.BytesIO(data))
        if image.format not in ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP"):
            return  # A picture of another kind by now.
        rgb = image.convert("RGB")
        line += [*rgb.size, stored(rgb.tobytes())]
    except Exception:
        pass
    index.append(line)


def picture(width, height, seed=5):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    a = np.stack([x * 255 // width, y * 255 // height, (x * 3 + y * 5) % 256], -1).astype("u1")
    a[: height // 2, : width // 2] = rng.integers(0, 256, (height // 2, width // 2, 3))
    return Image.fromarray(a)


def encoded(image, kind, **options):
    to = io.BytesIO()
    image.save(to, kind, **options)
    return to.getvalue()


def cuts(name, data, step=1):
    for n in range(0, len(data) - 3, step):
        ask(f"{name}/cut{n}", data[: len(data) - n])


rgb, trailer = picture(40, 30), b"\0\0\x10\x0a" + b"Image_UTC_Data1467382920" * 3 + b"SEFH\x68\0\0\0SEFT"
jpegs = {
    "420": encoded(rgb, "JPEG", quality=85), "444": encoded(rgb, "JPEG", quality=90, subsampling=0), "grey": encoded(rgb.convert("L"), "JPEG"),
    "restarts": encoded(rgb, "JPEG", quality=85, restart_marker_blocks=1), "rows": encoded(rgb, "JPEG", restart_marker_rows=1),
    "progressive": encoded(rgb, "JPEG", quality=85, progressive=True), "cmyk": encoded(rgb.convert("CMYK"), "JPEG"), "optimised": encoded(rgb, "JPEG", optimize=True),
}
codes = [0x00, 0x01, 0x02, 0xBF, 0xC0, 0xC1, 0xC2, 0xC4, 0xC8, 0xCC, 0xD0, 0xD3, 0xD7, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xE5, 0xEE, 0xF0, 0xFD, 0xFE, 0xFF]
for base, data in jpegs.items():
    name, rng = f"JPEG/{base}", np.random.default_rng(1)
    ask(f"{name}/whole", data)
    cuts(name, data)
    for n in (1, 2, 3, 5, 9, 20, 60, 200):
        ask(f"{name}/cut{n}_eoi", data[:-2][:-n] + b"\xff\xd9")
        ask(f"{name}/cut{n}_zeros", data[:-2][:-n] + bytes(300))
    for n in range(12):
        for tail, kind in ((bytes(n), "zeros"), (trailer[4 : 4 + n], "text"), (b"\xff" * n, "ones"), (b"\xff\0" * n, "stuffed")):
            ask(f"{name}/noeoi_{n}{kind}", data[:-2] + tail)
    for tail in (trailer, data, encoded(rgb, "PNG"), b"\xff\xe5\0\x04ab", b"\xff\xe5\0\x44ab", *(rng.integers(0, 256, 300).astype("u1").tobytes() for _ in range(12))):
        ask(f"{name}/noeoi_tail", data[:-2] + tail)
        ask(f"{name}/eoi_tail", data + tail)
    for code in codes:
        marker = bytes([0xFF, code]) + b"\0\x04ab"
        ask(f"{name}/noeoi_marker{code:02x}", data[:-2] + marker + b"cd" * 9)
        ask(f"{name}/marker{code:02x}_eoi", data[:-2] + marker + b"\xff\xd9")
        for at in range(2, len(data) - 1):
            if data[at] == 0xFF and data[at + 1] != 0:
                ask(f"{name}/at{at}_{code:02x}", data[: at + 1] + bytes([code]) + data[at + 2 :])
        for at in np.linspace(data.rindex(b"\xff\xda") + 20, len(data) - 4, 5).astype(int):
            ask(f"{name}/in_scan{at}_{code:02x}", data[:at] + bytes([0xFF, code]) + data[at + 2 :])


def chunk(kind, body, bad=0):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ bad)


def chunks(data):
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        yield at, data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def adam7(width, height, rows):
    """Interlaced 8-bit RGB, written by hand: Pillow does not write it. `rows` is u8[height, width, 3]."""
    raw = b""
    for left, top, across, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        raw += b"".join(b"\0" + line.tobytes() for line in rows[top::down, left::across])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


grey16 = Image.fromarray((np.arange(30 * 20, dtype="u2").reshape(20, 30) * 97 % 700).astype("u2"))
alpha = rgb.convert("RGBA")
alpha.putalpha(picture(40, 30, 6).convert("L"))
pngs = {
    "rgb": encoded(rgb, "PNG"), "palette": encoded(rgb.quantize(37), "PNG"), "palette_alpha": encoded(rgb.quantize(16), "PNG", transparency=3),
    "grey16": encoded(grey16, "PNG"), "one_bit": encoded(rgb.convert("1"), "PNG"), "rgba": encoded(alpha, "PNG"), "la": encoded(alpha.convert("LA"), "PNG"),
    "grey_key": encoded(rgb.convert("L"), "PNG", transparency=9), "rgb_key": encoded(rgb, "PNG", transparency=(1, 2, 3)),
    "adam7": adam7(21, 13, np.asarray(picture(21, 13))), "stored": encoded(picture(11, 9), "PNG", compress_level=0), "animated": encoded(rgb, "PNG", save_all=True, append_images=[picture(40, 30, 9)]),
}
whole = pngs["rgb"]
(body,) = [body for _, kind, body in chunks(whole) if kind == b"IDAT"]
head, end, third = whole[:33], chunk(b"IEND", b""), len(body) // 3
pngs["split"] = head + chunk(b"IDAT", body[:third]) + chunk(b"IDAT", b"") + chunk(b"IDAT", body[third : 2 * third]) + chunk(b"IDAT", body[2 * third :]) + end
pngs["tail_in_own_chunk"] = head + chunk(b"IDAT", body[:-4]) + chunk(b"IDAT", body[-4:]) + end
pngs["text_behind"] = head + chunk(b"IDAT", body) + chunk(b"tEXt", b"a\0b" * 9) + chunk(b"eXIf", b"II*\0" + bytes(20)) + end
for base, data in pngs.items():
    name = f"PNG/{base}"
    ask(f"{name}/whole", data)
    cuts(name, data, 1 if len(data) < 1500 else 7)
    for n in range(1, 40):
        ask(f"{name}/cut{n}", data[: len(data) - n])
    for at, kind, body in chunks(data):
        for other in (b"IDAT", b"IEND", b"IHDR", b"tEXt", b"ABCD", b"abcd", b"aBcd", b"\0\0\0\0", b"PLTE", b"zzz", b"fdAT"):
            ask(f"{name}/{kind.decode()}{at}_is_{other!r}", data[:at] + chunk(other, body) + data[at + 12 + len(body) :])
        ask(f"{name}/{kind.decode()}{at}_crc", data[:at] + chunk(kind, body, 1) + data[at + 12 + len(body) :])
        ask(f"{name}/{kind.decode()}{at}_gone", data[:at] + data[at + 12 + len(body) :])
        ask(f"{name}/{kind.decode()}{at}_critical", data[:at] + chunk(b"ABCD", b"12345678") + data[at:])
        ask(f"{name}/{kind.decode()}{at}_critical_crc", data[:at] + chunk(b"ABCD", b"12345678", 5) + data[at:])
        ask(f"{name}/{kind.decode()}{at}_longer", data[:at] + struct.pack(">I", len(body) + 40) + data[at + 4 :])
    data_at, _, body = next((c for c in chunks(data) if c[1] == b"IDAT"))
    if base not in ("split", "tail_in_own_chunk"):
        raw = zlib.decompress(body)
        for keep in (0, 1, len(raw) // 3, len(raw) - 1):
            ask(f"{name}/rows_end_at{keep}", data[:data_at] + chunk(b"IDAT", zlib.compress(raw[:keep])) + end)
        ask(f"{name}/more_rows", data[:data_at] + chunk(b"IDAT", zlib.compress(raw + bytes(500))) + end)
        ask(f"{name}/bad_filter", data[:data_at] + chunk(b"IDAT", zlib.compress(b"\x07" + raw[1:])) + end)
        for n in range(1, 9):
            flipped = body[:-n] + bytes([body[-n] ^ 0x55]) + body[len(body) - n + 1 :]
            ask(f"{name}/flip{n}", data[:data_at] + chunk(b"IDAT", flipped) + end)

animation = dict(save_all=True, append_images=[picture(40, 30, 9)], duration=100)
others = {
    "WebP/lossy": encoded(rgb, "WEBP", quality=80), "WebP/lossless": encoded(rgb, "WEBP", lossless=True), "WebP/alpha": encoded(alpha, "WEBP", quality=80),
    "WebP/animated": encoded(rgb, "WEBP", **animation), "GIF/plain": encoded(rgb.quantize(64), "GIF"), "GIF/straight": encoded(rgb.quantize(16), "GIF", interlace=0),
    "GIF/clear": encoded(rgb.quantize(16), "GIF", transparency=3), "GIF/animated": encoded(rgb.quantize(16), "GIF", save_all=True, append_images=[picture(40, 30, 9).quantize(16)]),
    "BMP/24": encoded(picture(21, 13), "BMP"), "BMP/palette": encoded(picture(21, 13).quantize(20), "BMP"), "BMP/one_bit": encoded(picture(21, 13).convert("1"), "BMP"), "BMP/32": encoded(alpha, "BMP"),
}
for name, data in others.items():
    ask(f"{name}/whole", data)
    cuts(name, data, 1 if len(data) < 3000 else 3)
    for n in range(1, 40):
        ask(f"{name}/cut{n}", data[: len(data) - n])
    for tail in (b"\0", b"junk" * 9, data):
        ask(f"{name}/tail{len(tail)}", data + tail)
    if name.startswith("WebP"):
        for size in (0, 1, len(data) - 30, len(data) - 9, len(data) - 7, len(data), len(data) + 50):
            ask(f"{name}/riff{size}", data[:4] + struct.pack("<I", size) + data[8:])
(out / "index.tsv").write_text("".join("\t".join(map(str, line)) + "\n" for line in index))
print(f"{len(index)} pictures, {sum(len(line) > 3 for line in index)} read by Pillow {Image.__version__}")
