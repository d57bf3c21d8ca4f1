"""Reads what `trommel embed --format npy` wrote as users of clip-retrieval's layout read it, beside the Arrow files of the same run.

Usage: npy_readback.py RUN SHARD..    (the shards in the order of the plan; numpy, pyarrow, webdataset)
"""

import glob
import os
import sys

import numpy as np
import pyarrow.ipc
import pyarrow.parquet as pq
import webdataset

run, shards = sys.argv[1], sys.argv[2:]
width = len(str(len(shards)))
rows = 0
for at, shard in enumerate(shards):
    number = f"{at:0{width}}"
    vectors = np.load(f"{run}/img_emb/img_emb_{number}.npy", mmap_mode="r")
    assert vectors.dtype == np.dtype("<f2") and vectors.flags.c_contiguous and vectors.ndim == 2, (vectors.dtype, vectors.shape)
    table = pq.read_table(f"{run}/metadata/metadata_{number}.parquet")
    keys = [sample["__key__"] for sample in webdataset.WebDataset(shard, shardshuffle=False)]
    assert table["image_path"].to_pylist() == keys, number
    [part] = glob.glob(f"{run}/embeddings/{at}.*.arrow")
    arrow = pyarrow.ipc.open_file(part).read_all().sort_by("index")
    assert arrow["key"].to_pylist() == keys
    bits = np.asarray(arrow["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False), dtype="<f2").view("<u2")
    assert vectors.shape == (len(keys), bits.size // len(keys)) and (vectors.view("<u2").ravel() == bits).all(), number
    assert (abs(np.linalg.norm(vectors.astype("f8"), axis=1) - 1) < 1e-3).all()
    # numpy writes the same file.
    np.save(f"{run}/again.npy", np.array(vectors))
    assert open(f"{run}/again.npy", "rb").read() == open(f"{run}/img_emb/img_emb_{number}.npy", "rb").read(), "header"
    rows += len(keys)
assert sorted(os.listdir(f"{run}/img_emb")) == [f"img_emb_{at:0{width}}.npy" for at in range(len(shards))]
print(f"{rows} rows equal in numpy {np.__version__}, pyarrow {pyarrow.__version__} and webdataset {webdataset.__version__}")
