"""How many decisions flip where vectors are rounded to f16: f32, canonical f16, and f16 of the pool against f32 of the references.

usage: flips.py OUT [POOL REFERENCES POINTS]
writes OUT/{points,reference,pool}32.npy   features normalised in f32, as they are published
       OUT/{reference,pool}16.npy          the same as clip-retrieval stores them: rounded from there to f16
       OUT/long32.npy                      references that are not normalised
       OUT/truth.json                      who is dropped by drop-over-radius, row by row, and how many decisions flip
The vectors are clustered, of 640 dimensions; the first COPIES of the pool are copies of references that give a radius. numpy, products in f64.
"""
import json
import sys
from pathlib import Path

import numpy as np

out = Path(sys.argv[1])
count, references, points = (int(word) for word in sys.argv[2:5]) if len(sys.argv) > 2 else (3000, 1500, 400)
DIM, CLUSTERS = 640, 200
COPIES = min(500, points)
dice = np.random.default_rng(0)
decay = np.sqrt(1 + np.arange(DIM) / 20)
centres = dice.standard_normal((CLUSTERS, DIM)) / decay


def features(n):
    return (centres[dice.integers(0, CLUSTERS, n)] + 0.7 * dice.standard_normal((n, DIM)) / decay).astype(np.float32)


def canonical(rows):
    wide = rows.astype(np.float64)
    return (wide / np.sqrt((wide**2).sum(axis=1, keepdims=True))).astype(np.float16)


def normalised(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


t, ref, pool = (normalised(features(n)) for n in (points, references, count))
pool[:COPIES] = ref[(ref @ t.T).argmax(axis=0)[:COPIES]]


def products(a, b):
    return a.astype(np.float64) @ b.astype(np.float64).T


def dropped(references, pool, at_radii, at_pool):
    return (products(pool, at_pool) > products(references, at_radii).max(axis=0)).any(axis=1)


ct, cref, cpool = canonical(t), canonical(ref), canonical(pool)
pool16 = pool.astype(np.float16)
ways = {
    "f32": dropped(ref, pool, t, t),
    "canonical": dropped(cref, cpool, ct, ct),
    # The published scripts: radii of f32, then a pool of f16.
    "published": dropped(ref, pool16, t, t),
    # What we must do with the same files, which is said.
    "mixed": dropped(cref, pool16, ct, ct),
    # References that are rounded as the pool was.
    "alike": dropped(ref.astype(np.float16), pool16, ct, ct),
}
truth = {name: {"dropped": [bool(it) for it in rows], "copies": int(rows[:COPIES].sum())} for name, rows in ways.items()}
for name, rows in ways.items():
    truth[name]["flips"] = int((rows != ways["f32"]).sum())
(out / "truth.json").write_text(json.dumps(truth | {"copies": COPIES}))
for name, rows in {"points32": t, "reference32": ref, "long32": 2 * ref, "pool32": pool, "reference16": ref.astype(np.float16), "pool16": pool16}.items():
    np.save(out / f"{name}.npy", rows)
print(f"numpy {np.__version__}: {count} samples, {references} references, {points} points, {COPIES} copies")
for name, rows in ways.items():
    print(f"  {name}: {rows.sum()} dropped, {truth[name]['copies']} copies among them; {truth[name]['flips']} flip against f32")
