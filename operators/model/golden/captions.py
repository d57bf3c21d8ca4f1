"""Token ids of open_clip's tokenizer, as a digest a caption; and HTML's named characters.

Peer: open_clip_torch 3.3.0 (ftfy 6.3.1). Run: python operators/model/golden/captions.py CAPTIONS [IDS]
CAPTIONS holds test_1000.parquet and test_10000.parquet with a column TEXT (or `caption`). Writes captions.json
beside itself: for each file the first four bytes of sha256 over a caption's 77 ids as little-endian i32, joined and in base64.
With IDS, also the cleaned text and ids of every caption there as JSON lines, to look at differences.
Writes hostile.json too: made-up captions with their ids, so that a machine without the captions has a test.
Writes ../entities.txt: HTML's named characters (html.entities.html5 of Python, the table of the HTML standard).
"""

import base64
import hashlib
import html.entities
import json
import os
import sys

import ftfy
import numpy as np
import open_clip
import pyarrow.parquet as pq
from open_clip.tokenizer import SimpleTokenizer, _clean_lower

HERE = os.path.dirname(os.path.abspath(__file__))
HOSTILE = [
    "", " ", "a photo of a cat", "A  PHOTO\tof\na   Dog.", "don't you're I'VE we'll he'd it's I'm", "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m",
    "sch\u00c3\u00b6n \u00e2\u20ac\u0153quoted\u00e2\u20ac\u009d", "\u201ccurly\u201d \u2018quotes\u2019", "AT&amp;T &amp;amp; &lt;b&gt; &copy &notit; &#8217; &#x27; &#146; &#0; &#xD800; &#x110000;",
    "<b>html &amp; tags</b>", "1234567890 3.14159 \u00bd \u2167", "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0 \uff76\uff9e\uff21\uff22\uff23", "\u041f\u0440\u0438\u0432\u0435\u0442 \u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1\u03a3",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 emoji", "\ufb01ne \ufb02ow o\ufb03ce", "\u0130stanbul STRASSE \u1e9e", "a\u0000b\u0007c\ufeffd\x1b[31mred", "line\r\nbreak\u2028sep\u2029par\x85nel",
    "<start_of_text>Hi<end_of_text>", "x" * 500, "word " * 200, "!!!???...---===***" * 3, "e\u0301 o\u0308 \u1100\u1161", "\u00a0non\u00a0breaking\u3000ideographic",
    "100% Cotton\u2122 \u00ae\u00a9 \u20ac5 \u00a310", "l\u00e2\u0080\u0099amour", "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea", "&nbsp;&ensp;x&zwj;y&lt;3", "&AMP;&Amp;&EACUTE;&eacute", "http://x.y/z?a=b&lang=en&copy=1",
    "na\u00c3\u00afve \u00c2\u00a3 \u00c2", "\u00d0\u0178\u00d1\u20ac\u00d0\u00b8\u00d0\u00b2\u00d0\u00b5\u00d1\u201a", "snake_case_word a_b", "\u02bcn \u02b9 \u2019tis rock \u2019n\u2019 roll", "\u00b2\u00b3\u00b9 x\u00b2 H\u2082O", "\u1fbc \u1f88 \u01c5 \u01c4",
]


def digest(ids):
    return hashlib.sha256(np.asarray(ids, dtype="<i4").tobytes()).digest()[:4]


def main():
    tokenizer = SimpleTokenizer()
    files = []
    dump = open(sys.argv[2], "w") if len(sys.argv) > 2 else None
    for name in ["test_1000.parquet", "test_10000.parquet"]:
        table = pq.read_table(os.path.join(sys.argv[1], name))
        column = "TEXT" if "TEXT" in table.column_names else "caption"
        captions = table[column].to_pylist()
        digests = b""
        for row, caption in enumerate(captions):
            ids = tokenizer([caption or ""])[0].numpy()
            digests += digest(ids)
            if dump:
                line = {"file": name, "row": row, "caption": caption, "clean": _clean_lower(caption or ""), "ids": ids.tolist()}
                dump.write(json.dumps(line) + "\n")
        files.append({"name": name, "column": column, "rows": len(captions), "digests": base64.b64encode(digests).decode()})
    head = {
        "script": "operators/model/golden/captions.py",
        "peer": f"open_clip_torch {open_clip.__version__}, ftfy {ftfy.__version__}",
    }
    with open(os.path.join(HERE, "captions.json"), "w") as file:
        json.dump({**head, "files": files}, file, indent=1)
        file.write("\n")
    cases = [{"caption": c, "clean": _clean_lower(c), "ids": [int(i) for i in tokenizer([c])[0] if i]} for c in HOSTILE]
    with open(os.path.join(HERE, "hostile.json"), "w") as file:
        file.write(json.dumps(head)[:-1] + ', "cases": [\n')
        file.write(",\n".join(json.dumps(case) for case in cases) + "\n]}\n")
    with open(os.path.join(HERE, "..", "entities.txt"), "w") as file:
        for name, value in sorted(html.entities.html5.items()):
            file.write(f"{name} {' '.join(format(ord(c), 'x') for c in value)}\n")


if __name__ == "__main__":
    main()
