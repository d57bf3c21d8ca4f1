"""Beside numpy (f64, which holds these sums exactly), faiss and pyarrow: what `trommel dedup` writes.

    dedup.py make FOLDER            set.npy f16[n, dim] with planted duplicates, other.npy
    dedup.py check FOLDER T MODE    reads FOLDER/MODE/dedup.*; MODE is plan, greedy, clusters, spherical or against
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[2])


def units(x):
    x = x.astype(np.float64)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


if sys.argv[1] == "make":
    rng = np.random.default_rng(5)
    dim, centres = 48, rng.standard_normal((40, 48))
    base = centres[rng.integers(0, 40, 2000)] + 0.9 * rng.standard_normal((2000, dim))
    near = base[rng.integers(0, 2000, 500)] + 0.5 * rng.standard_normal((500, dim))
    same = np.concatenate([base, near])[rng.integers(0, 2500, 300)]
    all = units(rng.permutation(np.concatenate([base, near, same])))
    np.save(folder / "set.npy", all)
    np.save(folder / "other.npy", units(np.concatenate([near[:200], rng.standard_normal((300, dim))])))
    sys.exit()

import faiss
import pyarrow.parquet as pq

above, mode = float(sys.argv[3]), sys.argv[4]
out = folder / mode
x16 = np.load(folder / "set.npy")
y16 = np.load(folder / "other.npy") if mode == "against" else x16
x, y = x16.astype(np.float64), y16.astype(np.float64)
sims = x @ y.T  # products and sums of f16 are exact in f64: these are the canonical bits
n = len(x)

kept = pq.read_table(out / "dedup.parquet").to_pydict()
gone = pq.read_table(out / "dedup.duplicates.parquet").to_pydict()
head = json.loads((out / "dedup.split.json").read_text())
assert set(kept["shard"]) == {"set.npy"} and head["count"] == len(kept["index"]), head
assert sorted(kept["index"] + gone["index"]) == list(range(n))
assert all(key == str(index) for key, index in zip(kept["key"], kept["index"]))

message = b"trommel split 1"
for shard, index, key in zip(kept["shard"], kept["index"], kept["key"]):
    message += struct.pack("<Q", len(shard.encode())) + shard.encode() + struct.pack("<I", index)
    message += struct.pack("<Q", len(key.encode())) + key.encode()
assert hashlib.sha256(message).hexdigest() == head["keys_sha256"]

table = pq.read_table(out / "dedup.samples.parquet").to_pydict()
assert table["index"] == list(range(n))
assert [index for index, stays in enumerate(table["kept"]) if stays] == kept["index"]
groups = [np.arange(n)]
spherical = mode == "spherical"
if mode == "clusters" or spherical:
    cluster, distance = np.array(table["cluster"]), np.array(table["centroid_distance"])
    groups = [np.flatnonzero(cluster == at) for at in range(cluster.max() + 1)]
    for group in groups:
        assert set(np.array(table["cluster_size"])[group]) <= {len(group)}
        means = np.array(table["cluster_mean_distance"])[group]
        assert np.allclose(means, distance[group].mean() if len(group) else 0, atol=1e-12)
    # The means of the clusters, or their directions, are the centres, but for their rounding and the last rows that moved.
    centres = np.array([x[group].mean(axis=0) if len(group) else np.zeros(x.shape[1]) for group in groups])
    if spherical:
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    assert np.abs(np.linalg.norm(x - centres[cluster], axis=1) - distance).max() < 2e-3
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    for at, group in enumerate(groups):
        around = np.sort([apart[at, other] for other in range(len(groups)) if other != at and len(groups[other])])[:20]
        told = np.array(table["cluster_neighbour_distance"])[group]
        assert np.abs(told - around.mean()).max(initial=0) < 5e-3, (told, around.mean())
        complexity = np.array(table["cluster_complexity"])[group]
        assert np.allclose(complexity, told * np.array(table["cluster_mean_distance"])[group], atol=1e-15)
    if spherical:  # density-based pruning: mean cosine distances to the centre, and of the centre to the 20 nearest ones
        cosines = 1 - centres @ centres.T
        for at, group in enumerate(groups):
            around = np.sort([cosines[at, other] for other in range(len(groups)) if other != at and len(groups[other])])[:20]
            due = np.mean(1 - x[group] @ centres[at]) * around.mean() if len(group) else 0
            told = np.array(table["cluster_cosine_complexity"])[group]
            assert np.abs(told - due).max(initial=0) < 2e-3, (told, due)
    theirs = faiss.Kmeans(x.shape[1], len(groups), niter=100, seed=1, spherical=spherical, min_points_per_centroid=1)
    theirs.train(x.astype(np.float32))
    _, attracted = theirs.index.search(x.astype(np.float32), 1)
    ours, faiss_inertia = (distance**2).sum(), ((x - theirs.centroids[attracted[:, 0]]) ** 2).sum()
    print(f"inertia {ours:.2f}, faiss {faiss_inertia:.2f}")
    assert ours < 1.05 * faiss_inertia, (ours, faiss_inertia)

expected = {}
for group in groups:
    stays = np.ones(n, bool)
    for at, row in enumerate(group):
        earlier = np.arange(len(y)) if mode == "against" else group[:at]
        if mode == "greedy":
            earlier = earlier[stays[earlier]]
        if len(earlier):
            best = earlier[np.argmax(sims[row, earlier])]  # the first of equal ones
            if sims[row, best] > above:
                expected[int(row)] = (int(best), sims[row, best])
                stays[row] = False
found = {i: (b, s) for i, b, s in zip(gone["index"], gone["by_index"], gone["similarity"])}
assert found == expected, set(found) ^ set(expected)
assert set(gone["by_shard"]) <= {"other.npy" if mode == "against" else "set.npy"}

index = faiss.IndexFlatIP(x.shape[1])
index.add(y.astype(np.float32))
if mode in ("plan", "against"):
    lims, scores, ids = index.range_search(x.astype(np.float32), above - 1e-5)
    near = {(row, int(by)) for row in range(n) for by in ids[lims[row] : lims[row + 1]]}
    assert all((row, by) in near for row, (by, _) in found.items())
    sure = {
        row
        for row in range(n)
        for by, score in zip(ids[lims[row] : lims[row + 1]], scores[lims[row] : lims[row + 1]])
        if score > above + 1e-5 and (mode == "against" or by < row)
    }
    assert sure <= set(found), sure - set(found)
print(f"{mode}: {len(found)} of {n} go; numpy, faiss and pyarrow agree")
