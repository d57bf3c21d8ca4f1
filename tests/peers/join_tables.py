"""Tables beside a ledger as others write them, and which samples some rules keep by pyarrow's reading of them: RUN OUT."""

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

run, out = Path(sys.argv[1]), Path(sys.argv[2])
ledger = pl.concat([pl.read_parquet(part) for part in (run / "ledger").glob("*.parquet")]).sort("shard", "index")
judged = ledger.filter(pl.col("status") != "rejected")
rng = np.random.default_rng(4)
n = judged.height
names = [f"{shard}/{key}" for shard, key in judged.select("shard", "key").iter_rows()]
score = rng.integers(0, 11, n).astype(np.float32)
word = np.array(["cat", "dog", "a (red) fox"])[rng.integers(0, 3, n)]
table = pa.table({
    "uid": judged["uid"].to_list(),
    "score": pa.array(score, mask=rng.random(n) < 0.1),
    "half": pa.array((score / 4).astype(np.float16)),
    "word": pa.array(word).dictionary_encode(),
    "cluster": pa.array(rng.integers(-3, 3, n)),
    "level": pa.array(rng.integers(0, 200, n).astype(np.uint8)),
    "safe": pa.array(rng.random(n) < 0.5),
    "huge": pa.array(np.full(n, 2**60)),
    "when": pa.array([datetime.now(timezone.utc)] * n),
    "nested": pa.array([[1, 2]] * n),
})
mixed = table.take(pa.array(rng.permutation(n)))
pq.write_table(mixed, out / "by_uid.parquet", row_group_size=50, compression="gzip")
pl.from_arrow(mixed.drop_columns(["nested", "when"])).write_parquet(out / "by_polars.parquet")
# One file a shard, as img2dataset lays them beside its tars; a key is unique there alone. Another one with other numbers.
for folder, add in [("shards", 0), ("other", 1)]:
    (out / folder).mkdir()
    for shard in judged["shard"].unique():
        rows = [at for at, name in enumerate(names) if name.startswith(shard + "/")]
        keys = [names[at].split("/")[1] for at in rows]
        own = pa.table({"__key__": keys, "key": keys, "score": pa.array((score[rows] + add).tolist())})
        pq.write_table(own, out / folder / f"{shard.removesuffix('.tar')}.parquet")
plain = table.select(["uid", "score", "word"])
pq.write_table(plain, out / "in_place.parquet")
pq.write_table(plain.drop_columns(["uid"]), out / "nameless.parquet")
lacking = names.index("00001.tar/0006")
pq.write_table(plain.take(pa.array([at for at in range(n) if at != lacking])), out / "lacking.parquet")
numbers = pl.DataFrame({"key": judged["key"].cast(pl.Int64, strict=False), "shard": judged["shard"], "score": score})
numbers.write_parquet(out / "numbers.parquet")
pq.write_table(plain.slice(1), out / "short.parquet")
pq.write_table(plain.take(pa.array([1, 0, *range(2, n)])), out / "swapped.parquet")
pq.write_table(pa.concat_tables([plain, plain.slice(5, 1)]), out / "twice.parquet")
keys = judged["key"].unique().to_list()
pq.write_table(pa.table({"key": keys, "score": np.ones(len(keys))}), out / "keys.parquet")


def named(column):
    values = pq.read_table(out / "by_uid.parquet", columns=["uid", column])
    by_uid = dict(zip(values["uid"].to_pylist(), values[column].to_pylist()))
    return [by_uid[uid] for uid in judged["uid"]]


def where(column, test):
    return [name for name, x in zip(names, named(column)) if x is not None and test(x)]


def first(column, count, reverse):
    placed = [(-x if reverse else x, at) for at, x in enumerate(named(column)) if x is not None]
    return [names[at] for at in sorted(at for _, at in sorted(placed)[:count])]


def each(column, count, by):
    seen, kept = {}, []
    for x, at in sorted((x, at) for at, x in enumerate(named(by)) if x is not None):
        label = named_labels[at]
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= count:
            kept.append(at)
    return [names[at] for at in sorted(kept)]


named_labels = named("cluster")
cases = [
    ("by_uid.parquet", "where:score>=5", where("score", lambda x: x >= 5)),
    ("by_polars.parquet@uid", "where:score<2.5", where("score", lambda x: x < 2.5)),
    ("by_uid.parquet", "where:half>1.5", where("half", lambda x: x > 1.5)),
    ("by_uid.parquet", "where:word=dog", where("word", lambda x: x == "dog")),
    ("by_uid.parquet", "'where:word=a (red) fox'", where("word", lambda x: x == "a (red) fox")),
    ("by_uid.parquet", "where:word~RED", where("word", lambda x: "red" in x)),
    ("by_uid.parquet", "where:cluster=-2", where("cluster", lambda x: x == -2)),
    ("by_polars.parquet", "where:level>=128", where("level", lambda x: x >= 128)),
    ("by_uid.parquet", "where:safe=1", where("safe", lambda x: x)),
    ("by_uid.parquet", "keep-highest:77@score", first("score", 77, True)),
    ("by_polars.parquet", "keep-lowest:33@half", first("half", 33, False)),
    ("by_uid.parquet", "keep-lowest:7@level per cluster", each("cluster", 7, "level")),
    ("t={}/by_uid.parquet", "where:t.score>=9", where("score", lambda x: x >= 9)),
    ("in_place.parquet@row", "where:score>=5", where("score", lambda x: x >= 5)),
    ("nameless.parquet@row", "where:word=dog", where("word", lambda x: x == "dog")),
    ("shards", "where:score>=5", [name for name, x in zip(names, score) if x >= 5]),
    ("shards@__key__=key", "where:score=3", [name for name, x in zip(names, score) if x == 3]),
]
paths = [join if "{}" in join else "{}/" + join for join, _, _ in cases]
told = [{"join": path, "rule": rule, "keys": kept} for path, (_, rule, kept) in zip(paths, cases)]
(out / "expected.json").write_text(json.dumps(told))
