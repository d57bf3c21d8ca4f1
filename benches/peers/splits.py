"""The splits of benches/select.rs by polars' streaming engine: RUN OUT TOTAL. (A script called select.py would hide Python's own module.)"""

import json
import sys
from pathlib import Path

import polars as pl

run, out, total = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
out.mkdir()
names = ["val", "sketch", "a", "r", "v2", "objectnet"]
judged = pl.scan_parquet(str(run / "ledger" / "*.parquet")).filter(pl.col("status") != "rejected")
kept = ["shard", "key", "index"]
near = {name: pl.col(f"hits.{name}") == 0 for name in names}
every = pl.all_horizontal(near.values())
sims = pl.max_horizontal(f"max_similarity.{name}" for name in names)


def first(rows, by, count, descending):
    order = rows.select(*kept, by.alias("by")).sort("by", "shard", "index", descending=[descending, False, False])
    return order.head(count).select(kept).sort("shard", "index")


sketch = pl.col("max_similarity.sketch")
splits = {name: judged.filter(test).select(kept).sort("shard", "index") for name, test in near.items()}
splits["combined"] = judged.filter(every).select(kept).sort("shard", "index")
splits["far"] = first(judged, sketch, total // 2, True)
splits["farther"] = first(judged, sketch, total // 4, True)
splits["least"] = first(judged, sketch, total // 2, False)
splits["core"] = first(judged.filter(every), sims, total // 4, True)
counts = {}
for name, rows in splits.items():
    rows.sink_parquet(out / f"{name}.parquet", engine="streaming")
    counts[name] = pl.scan_parquet(out / f"{name}.parquet").select(pl.len()).collect().item()
(out / "counts.json").write_text(json.dumps(counts))
