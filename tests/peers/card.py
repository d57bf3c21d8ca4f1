"""Decoding peer of a card: what Pillow makes of JPEGs, and of views of them.

usage: card.py OUT     OUT/list.tsv: JPEG, crop (left top right bottom), size (width height), window (left top right bottom)
writes OUT/N.rgb, what Pillow decodes from line N's JPEG, and OUT/N.view: crop, resize (rows first, then columns), window
"""
import sys
from pathlib import Path

from PIL import Image

OUT = Path(sys.argv[1])
for number, line in enumerate((OUT / "list.tsv").read_text().splitlines()):
    path, *numbers = line.split("\t")
    left, top, right, bottom, width, height, *window = map(int, numbers)
    picture = Image.open(OUT / path).convert("RGB")
    (OUT / f"{number}.rgb").write_bytes(picture.tobytes())
    part = picture.crop((left, top, right, bottom))
    wide = part.resize((width, part.height), Image.BICUBIC) if part.width != width else part
    view = wide.resize((width, height), Image.BICUBIC) if part.height != height else wide
    (OUT / f"{number}.view").write_bytes(view.crop(window).tobytes())
