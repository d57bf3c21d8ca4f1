"""Samples a second out of shards with webdataset, as bytes: SHARDS.. Prints one JSON line."""

import json
import sys
import time

import webdataset as wds

started, samples, size = time.perf_counter(), 0, 0
for sample in wds.WebDataset(sys.argv[1:], shardshuffle=False):
    samples += 1
    size += len(sample["jpg"]) + len(sample["txt"])
seconds = time.perf_counter() - started
print(json.dumps({"samples": samples, "bytes": size, "samples_per_second": samples / seconds}))
