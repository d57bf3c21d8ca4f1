"""Similarity peer: the same joins by FAISS (flat inner product) and numpy (f64).

usage: similarity.py DIR DIM
reads  DIR/samples.f16, DIR/points.f16 (little-endian rows of DIM)
writes DIR/maxima.f64, DIR/nearest.i64 (one per sample, numpy), DIR/radii.f64 (one per point over the samples, numpy),
       DIR/faiss_maxima.f32, DIR/faiss_nearest.i64, DIR/faiss_radii.f32
"""
import sys
from pathlib import Path

import faiss
import numpy as np

folder, dim = Path(sys.argv[1]), int(sys.argv[2])
faiss.omp_set_num_threads(1)
samples, points = (np.fromfile(folder / f"{name}.f16", dtype="<f2").reshape(-1, dim) for name in ("samples", "points"))

exact = samples.astype(np.float64) @ points.astype(np.float64).T
exact.max(axis=1).tofile(folder / "maxima.f64")
exact.argmax(axis=1).astype("<i8").tofile(folder / "nearest.i64")
exact.max(axis=0).tofile(folder / "radii.f64")


def flat(base, queries):
    index = faiss.IndexFlatIP(dim)
    index.add(base.astype(np.float32))
    return index.search(queries.astype(np.float32), 1)


values, ids = flat(points, samples)
values[:, 0].astype("<f4").tofile(folder / "faiss_maxima.f32")
ids[:, 0].astype("<i8").tofile(folder / "faiss_nearest.i64")
flat(samples, points)[0][:, 0].astype("<f4").tofile(folder / "faiss_radii.f32")
print(f"faiss {faiss.__version__}, numpy {np.__version__}: {len(samples)} samples, {len(points)} points, {dim} dimensions")
