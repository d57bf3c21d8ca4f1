"""12 % of some shards with webdataset: filtered by key, and from `pipe:trommel stream`. One JSON line.

usage: stream.py TROMMEL SHARDS SPLIT.parquet
"""

import hashlib
import json
import sys
import time

import braceexpand
import pyarrow.parquet as pq
import webdataset as wds


def read(dataset):
    start, samples, size, seen = time.perf_counter(), 0, 0, hashlib.sha256()
    for sample in dataset:
        samples += 1
        size += sum(len(data) for name, data in sample.items() if not name.startswith("__"))
        seen.update(sample["__key__"].encode())
    return {"seconds": time.perf_counter() - start, "samples": samples, "bytes": size, "hash": seen.hexdigest()}


def main():
    program, pattern, split = sys.argv[1:]
    shards = [path.rsplit("/", 1)[1] for path in braceexpand.braceexpand(pattern)]
    table = pq.read_table(split, columns=["key"], filters=[("shard", "in", shards)])
    kept = set(table.column("key").to_pylist())
    ways = {
        "filter": lambda: wds.WebDataset(pattern, shardshuffle=False).select(lambda sample: sample["__key__"] in kept),
        "pipe": lambda: wds.WebDataset(f"pipe:{program} stream {pattern} --split {split}", shardshuffle=False),
    }
    print(json.dumps({name: read(way()) for name, way in ways.items()}))


if __name__ == "__main__":
    main()
