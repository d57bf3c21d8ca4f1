"""Writes crops.txt: the training view's crops, from the description in view.rs alone.

    python make_crops.py > crops.txt
"""
import math

WORD = (1 << 64) - 1
LOG_RATIO = 0.2876820724517809


def word(h, w):
    z = ((h ^ w) + 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def text(h, s):
    s = s.encode()
    h = word(h, len(s))
    for at in range(0, len(s), 8):
        h = word(h, int.from_bytes(s[at:at + 8], "little"))
    return h


def exp(x):
    total = 1.0
    for n in range(16, 0, -1):
        total = 1.0 + x / n * total
    return total


def crop(width, height, scale, seed, key, passes):
    base = text(0, "crop")
    for field in (seed, text(text(0, "sample"), key), passes):
        base = word(base, field)
    uniform = lambda n, low, high: low + (high - low) * ((word(base, n) >> 11) * 2.0 ** -53)
    below = lambda n, k: (word(base, n) * k) >> 64
    for attempt in range(10):
        draw = 4 * attempt
        area = float(width) * float(height) * uniform(draw, *scale)
        ratio = exp(uniform(draw + 1, -LOG_RATIO, LOG_RATIO))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = below(draw + 2, height - down + 1)
            return below(draw + 3, width - across + 1), top, across, down
    across, down = width, height
    if width / height < 3 / 4:
        down = round(width / (3 / 4))
    elif width / height > 4 / 3:
        across = round(height * (4 / 3))
    across, down = max(1, min(across, width)), max(1, min(down, height))
    return (width - across) // 2, (height - down) // 2, across, down


print("# make_crops.py")
print("# width height scale(smallest largest) seed key pass crop(left top width height)")
for width, height in [(400, 350), (350, 400), (640, 480), (224, 224), (1, 1), (3, 2), (1, 900), (900, 1), (1000, 300), (333, 500)]:
    for scale in [(0.9, 1.0), (0.08, 1.0)]:
        for seed, key, passes in [(0, "000000012", 0), (0, "000000012", 1), (3, "a/b.c", 7), (2 ** 63, "", 4_000_000_000)]:
            print(width, height, *scale, seed, key or "-", passes, *crop(width, height, scale, seed, key, passes))
