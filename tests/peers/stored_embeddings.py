"""Stored embeddings in the layouts of clip-retrieval and DataComp, and what numpy decides on them.

usage: stored_embeddings.py OUT [CLIP_RETRIEVAL_OUT]
writes OUT/points.npy, OUT/reference.npy
       OUT/retrieval/{img_emb,metadata}  clip-retrieval's layout, eleven parts, names not padded
       OUT/datacomp/{shard}.npz, .parquet  as dataset2metadata writes them (np.savez_compressed, f32, not normalised)
       OUT/short                          clip-retrieval's layout; its second part has a key too few
       OUT/truth.json                     set -> file -> rows of [key, uid, reject or null, captioned, bits of max, nearest, bits of margin, exceeds, hits]
With CLIP_RETRIEVAL_OUT (the output of clip-retrieval itself) its pictures against its texts too.
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

out = Path(sys.argv[1])
dice = np.random.default_rng(7)
DIM = 48


def bits(x):
    return struct.unpack("<Q", struct.pack("<d", float(x)))[0]


def canonical(rows):
    """Rows as f16 unit vectors; None for those without a direction. f16 files are kept where every row is near norm 1."""
    wide = rows.astype(np.float64)
    norms = np.sqrt((wide**2).sum(axis=1))
    sound = np.isfinite(norms) & (norms > 0)
    if rows.dtype == np.float16 and np.all(np.abs(norms[sound] - 1) <= 1e-3):
        made = rows
    else:
        with np.errstate(all="ignore"):
            made = (wide / norms[:, None]).astype(np.float16)
    return [made[i] if sound[i] else None for i in range(len(rows))], norms


def exact(rows, points):
    return np.array(rows).astype(np.float64) @ np.array(points).astype(np.float64).T


def judged(vectors, keys, uids, captions, points, radii):
    rows, norms = canonical(vectors)
    truth = []
    for row, norm, key, uid, caption in zip(rows, norms, keys, uids, captions):
        captioned = caption is None or bool(caption.strip())
        if row is None:
            why = "embedding_zero" if norm == 0 else "embedding_not_finite"
            truth.append([key, uid, why, captioned, 0, 0, 0, 0, 0])
            continue
        s = exact([row], points)[0]
        margin = s - radii
        truth.append([key, uid, None, captioned, bits(s.max()), int(s.argmax()), bits(margin.max()), int(margin.argmax()), int((s > radii).sum())])
    return truth


def unit(n, near=None):
    rows = dice.standard_normal((n, DIM))
    if near is not None:
        some = dice.integers(0, len(near), n)
        rows = np.where((np.arange(n) % 3 == 0)[:, None], near[some].astype(np.float64) + 0.05 * rows, rows)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


points = unit(20)
reference = unit(60, points)
np.save(out / "points.npy", points)
np.save(out / "reference.npy", reference)
radii = exact(reference, points).max(axis=0)
truth = {"retrieval": {}, "datacomp": {}}

for part in range(11):
    vectors = unit(40 + part, points)
    vectors[5] = points[part]
    if part == 3:
        vectors[7] = 0
        vectors[8, 2] = np.inf
    if part == 4:
        vectors = (vectors.astype(np.float32) * 3).astype(np.float16)
    if part == 5:
        vectors = vectors.astype(np.float32) * 2
    keys = [f"{part:05}{row:04}" for row in range(len(vectors))]
    captions = ["" if row == 9 else f"a picture {row}" for row in range(len(vectors))]
    (out / "retrieval/img_emb").mkdir(parents=True, exist_ok=True)
    (out / "retrieval/metadata").mkdir(exist_ok=True)
    np.save(out / f"retrieval/img_emb/img_emb_{part}.npy", vectors)
    table = pa.table({"image_path": keys, "caption": captions, "url": [f"http://x/{key}" for key in keys]})
    pq.write_table(table, out / f"retrieval/metadata/metadata_{part}.parquet")
    uids = [None] * len(keys)
    truth["retrieval"][f"img_emb/img_emb_{part}.npy"] = judged(vectors, keys, uids, captions, points, radii)

(out / "datacomp").mkdir()
for part in range(3):
    vectors = unit(30, points).astype(np.float32) * (part + 1)
    uids = [f"{dice.integers(0, 2**63):032x}" for _ in range(30)]
    arrays = {"b32_img": dice.standard_normal((30, 8)).astype("f4"), "l14_img": vectors, "l14_txt": vectors[::-1]}
    save = np.savez if part == 2 else np.savez_compressed
    save(out / f"datacomp/{part:08}.npz", **arrays)
    texts = ["" if row % 7 == part else f"a picture {row}" for row in range(30)]
    pq.write_table(pa.table({"uid": uids, "text": texts, "original_width": [1] * 30}), out / f"datacomp/{part:08}.parquet")
    truth["datacomp"][f"{part:08}.npz"] = judged(vectors, uids, uids, texts, points, radii)

for part in range(3):
    (out / "short/img_emb").mkdir(parents=True, exist_ok=True)
    (out / "short/metadata").mkdir(exist_ok=True)
    np.save(out / f"short/img_emb/img_emb_{part}.npy", unit(10))
    pq.write_table(pa.table({"image_path": [str(row) for row in range(10 - (part == 1))]}), out / f"short/metadata/metadata_{part}.parquet")

if len(sys.argv) > 2:
    root = Path(sys.argv[2]) / "embeddings"
    images, texts = (np.load(root / f"{kind}_emb/{kind}_emb_0.npy") for kind in ("img", "text"))
    table = pq.read_table(root / "metadata/metadata_0.parquet").to_pydict()
    keys, captions = table["image_path"], table["caption"]
    nothing = np.full(len(texts), 2.0)
    rows = judged(images, keys, [None] * len(keys), captions, texts, nothing)
    truth["clip_retrieval_out"] = {"img_emb/img_emb_0.npy": rows}

(out / "truth.json").write_text(json.dumps(truth))
print(f"numpy {np.__version__}, pyarrow {pa.__version__}")
