"""Samples a second into Python, through `trommel.samples` and through webdataset: SHARDS SPLIT."""

import sys
import time
from pathlib import Path

import polars as pl
import trommel
import webdataset as wds
from torch.utils.data import DataLoader

shards, split = sys.argv[1:]
urls = sorted(str(path) for path in Path(shards).glob("*.tar"))
table = pl.read_parquet(split)
kept = set(zip(table["shard"], table["key"]))


def is_kept(sample):
    return (sample["__url__"].rsplit("/", 1)[-1], sample["__key__"]) in kept


def webdatasets(*more):
    return wds.DataPipeline(wds.SimpleShardList(urls), wds.split_by_worker, wds.tarfile_to_samples(), *more)


def bytes_of(sample):
    return sum(len(value) for value in sample.values() if isinstance(value, bytes))


def read(data, workers):
    """Samples, their bytes, and seconds, the better of two times: the first finds cold caches."""
    best = None
    for _ in range(2):
        started, count, size = time.perf_counter(), 0, 0
        # Batches of samples, as a trainer's loader sends them: one alone would measure the pipe between the processes.
        for batch in DataLoader(data, batch_size=64, collate_fn=sized, num_workers=workers):
            count, size = count + batch[0], size + batch[1]
        took = time.perf_counter() - started
        best = took if best is None else min(best, took)
    return count, size, best


def sized(samples):
    return len(samples), sum(map(bytes_of, samples))


print("| what | workers | trommel, samples/s | MB/s of samples | webdataset, samples/s | ratio |")
print("|--|--|--|--|--|--|")
for what, ours, theirs in [
    ("all samples", trommel.samples(shards), webdatasets()),
    ("a split's 12 %", trommel.samples(shards, split=split), webdatasets(wds.select(is_kept))),
]:
    for workers in (0, 1, 2):
        count, size, seconds = read(ours, workers)
        their_count, their_size, their_seconds = read(theirs, workers)
        assert (count, size) == (their_count, their_size), "not the same samples"
        rates = f"{count / seconds:,.0f} | {size / 1e6 / seconds:,.0f} | {count / their_seconds:,.0f}"
        print(f"| {what} | {workers} | {rates} | {their_seconds / seconds:.2f} |")
