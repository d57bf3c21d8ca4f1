"""The nearest point of each row by one of faiss's flat indices.

usage: flat.py DIR INDEX ROWS THREADS NAME,..
reads  DIR/points/NAME.npy, DIR/pool/img_emb/img_emb_{i}.npy, DIR/ours.bin (f64 similarity and u64 point a row)
prints seconds of reading and searching, then how the nearest points compare with ours
"""
import sys
import time
from pathlib import Path

import faiss
import numpy as np

folder, kind, rows, threads, names = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
faiss.omp_set_num_threads(threads)
points = np.concatenate([np.load(folder / f"points/{name}.npy") for name in names.split(",")]).astype(np.float32)
dim = points.shape[1]
index = faiss.IndexFlatIP(dim) if kind == "IndexFlatIP" else faiss.IndexFlatIPPanorama(dim, 8)
index.add(points)
values, ids, done, part = [], [], 0, 0
start = time.perf_counter()
while done < rows:
    pool = np.load(folder / f"pool/img_emb/img_emb_{part}.npy", mmap_mode="r")[: rows - done]
    for at in range(0, len(pool), 4096):
        found = index.search(pool[at : at + 4096].astype(np.float32), 1)
        values.append(found[0][:, 0])
        ids.append(found[1][:, 0])
    done, part = done + len(pool), part + 1
seconds = time.perf_counter() - start
ours = np.fromfile(folder / "ours.bin", dtype=[("value", "<f8"), ("point", "<u8")])
values, ids = np.concatenate(values), np.concatenate(ids)
apart = np.abs(values - ours["value"])
assert apart.max() < 1e-4, apart.max()
others = (ids != ours["point"].astype(np.int64)).sum()
print(f"{seconds:.3f} {others} of {rows} nearest points differ, all within {apart.max():.1e} of ours (faiss {faiss.__version__})")
