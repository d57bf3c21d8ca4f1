"""Near-duplicates for benches/dedup.rs: make SET ROWS | pairs SET T OUT | clusters SET T OUT K ROUNDS."""

import json
import sys

import numpy as np

what, path = sys.argv[1:3]
DIM = 640

if what == "make":
    rows = int(sys.argv[3])
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((max(rows // 400, 1), DIM), dtype=np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float16, (rows, DIM))
    for at in range(0, rows, 10_000):
        many = min(10_000, rows - at)
        x = centres[rng.integers(0, len(centres), many)] + rng.standard_normal((many, DIM), dtype=np.float32)
        copies = rng.random(many) < 0.125
        from_ = rng.integers(0, max(at, 1), many)
        x[copies] = np.asarray(out[from_[copies]], np.float32) + 0.01 * x[copies] if at else x[copies]
        out[at : at + many] = x / np.linalg.norm(x, axis=1, keepdims=True)
    sys.exit()

import faiss

above, out = float(sys.argv[3]), sys.argv[4]
x = np.load(path).astype(np.float32)
stays = np.ones(len(x), bool)
if what == "pairs":
    index = faiss.IndexFlatIP(DIM)
    index.add(x)
    for at in range(0, len(x), 4096):
        lims, _, ids = index.range_search(x[at : at + 4096], above)
        lims = lims.astype(np.int64)
        rows = np.repeat(np.arange(at, at + len(lims) - 1), np.diff(lims))
        stays[rows[ids < rows]] = False
else:
    clusters, rounds = int(sys.argv[5]), int(sys.argv[6])
    kmeans = faiss.Kmeans(DIM, clusters, niter=rounds, seed=1, max_points_per_centroid=len(x))
    kmeans.train(x)
    _, nearest = kmeans.index.search(x, 1)
    order = np.argsort(nearest[:, 0], kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(nearest[order, 0])) + 1):
        sims = np.tril(x[group] @ x[group].T, -1)
        stays[group[sims.max(axis=1) > above]] = False
json.dump({"kept": int(stays.sum())}, open(out, "w"))
