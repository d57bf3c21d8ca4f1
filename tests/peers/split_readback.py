"""Reads splits with pyarrow, polars, DuckDB and numpy, and works them out anew with polars from the run's ledger: RUN OUT."""

import hashlib
import json
import struct
import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq

run, out = Path(sys.argv[1]), Path(sys.argv[2])
ledger = pl.concat([pl.read_parquet(part) for part in (run / "ledger").glob("*.parquet")]).sort("shard", "index")
judged = ledger.filter(pl.col("status") != "rejected")
sims = pl.max_horizontal("max_similarity.val", "max_similarity.sketch")
first = judged.sort(pl.col("max_similarity.val"), descending=True, maintain_order=True).head(77)
expected = {
    "some": first.filter(sims <= 0.75).sort("shard", "index"),
    "none": judged.head(0),
    "all": judged,
}
for name, rows in expected.items():
    table = pq.read_table(out / f"{name}.parquet")
    metadata = pq.read_metadata(out / f"{name}.parquet").metadata
    assert table.column_names == ["shard", "key", "index"], table.column_names
    assert table.to_pydict() == rows.select("shard", "key", "index").to_dict(as_series=False), name
    assert pl.read_parquet(out / f"{name}.parquet").height == rows.height
    # The rows of the ledger that a split keeps, as SQL asks for them.
    question = (
        'select count(*), min(l."max_similarity.val") from read_parquet(?) s join read_parquet(?) l using (shard, key, "index")'
        " where l.status != 'rejected'"
    )
    [kept] = duckdb.execute(question, [str(out / f"{name}.parquet"), str(run / "ledger" / "*.parquet")]).fetchall()
    assert kept == (rows.height, rows["max_similarity.val"].min()), (name, kept)

    message = hashlib.sha256(b"trommel split 1")
    for shard, key, index in zip(*(table[column].to_pylist() for column in ("shard", "key", "index"))):
        for text in (shard, key):
            data = text.encode()
            message.update(struct.pack("<Q", len(data)) + data)
            if text is shard:
                message.update(struct.pack("<I", index))
    head = json.loads((out / f"{name}.split.json").read_text())
    # A table knows nothing of the lists that lie beside it.
    for ending, told in head.pop("lists").items():
        data = (out / f"{name}.{ending}").read_bytes()
        assert told == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}, (name, ending)
    assert head == json.loads(metadata[b"trommel.split"]), name
    assert (head["count"], head["keys_sha256"]) == (rows.height, message.hexdigest()), name
    assert head["identity"]["architecture"] == "tiny" and metadata[b"rule"].decode() == head["rule"]

    # As DataComp's baselines make a list, and as its resharder opens one.
    pairs = [divmod(int(uid, 16), 1 << 64) for uid in sorted({uid.zfill(32) for uid in rows["uid"]})]
    due = np.array(pairs, dtype=np.dtype("u8,u8"))
    uids = np.load(out / f"{name}.npy", mmap_mode="r" if pairs else None)
    assert uids.dtype == np.dtype("u8,u8") and uids.shape == due.shape and (uids == due).all(), name
    assert (np.sort(uids) == uids).all(), name
    np.save(out / "again.npy", due)
    assert (out / "again.npy").read_bytes() == (out / f"{name}.npy").read_bytes(), name

    lines = (out / f"{name}.txt").read_text().splitlines()
    assert lines == [f"{shard}/{key}" for shard, key in rows.select("shard", "key").iter_rows()], name
print(f"{len(expected)} splits equal")
