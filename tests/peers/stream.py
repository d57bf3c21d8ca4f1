"""Reads what `trommel stream` keeps with webdataset and open_clip, and compares it with what Python's tarfile finds in the source shards.

usage: stream.py TROMMEL SHARDS SPLIT.parquet SPLIT.txt NEW_SHARDS
"""

import json
import logging
import re
import sys
import tarfile
from types import SimpleNamespace

import braceexpand
import torch
import webdataset as wds


def source(pattern, listed):
    """Members of each listed sample, by key, in order."""
    kept = {}
    for path in braceexpand.braceexpand(pattern):
        shard = path.rsplit("/", 1)[1]
        with tarfile.open(path) as tar:
            for member in tar:
                key, extension = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", member.name).groups()
                if f"{shard}/{key}" in listed:
                    kept.setdefault(key, {})[extension] = tar.extractfile(member).read()
    return kept


def plain(dataset, workers):
    """Samples of a WebDataset by key, read by so many workers."""
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)
    found = {}
    for sample in loader:
        key = sample["__key__"]
        assert key not in found, f"{key} came twice"
        found[key] = {name: data for name, data in sample.items() if not name.startswith("__")}
    return found


def open_clip_captions(urls, samples):
    """Captions that open_clip's own loader gives in an epoch of evaluation."""
    from open_clip_train.data import get_wds_dataset

    args = SimpleNamespace(
        train_data=None, val_data=urls, train_num_samples=None, val_num_samples=samples, dataset_resampled=False,
        train_data_upsampling_factors=None, seed=0, batch_size=8, workers=2, world_size=1, rank=0, distributed=False,
    )
    size = []
    picture = lambda image: size.append(1) or torch.zeros(3, 8, 8)  # noqa: E731
    info = get_wds_dataset(args, preprocess_img=picture, is_train=False, tokenizer=lambda text: [text])
    return [text for _, texts in info.dataloader for text in texts]


def main():
    program, pattern, split, listed, new = sys.argv[1:]
    with open(listed, encoding="utf-8") as lines:
        due = source(pattern, set(lines.read().split("\n")))
    pipes = f"pipe:{program} stream {pattern} --split {split}"
    shards = f"{new}/{{00000..00002}}.tar"
    ways = 0
    for urls in (pipes, shards):
        dataset = wds.WebDataset(urls, shardshuffle=False, empty_check=False)
        found = plain(dataset, workers=2)
        assert found == due, (sorted(found), sorted(due))
        ways += 1
    with open(f"{new}/sizes.json", encoding="utf-8") as sizes:
        assert sum(json.load(sizes).values()) == len(due)
    captions = sorted(sample["txt"].decode() for sample in due.values())
    for urls in (pipes, shards):
        found = open_clip_captions(urls, len(due))
        assert sorted(found) == captions, (len(found), len(captions))
        ways += 1
    from open_clip_train.data import get_dataset_size

    assert get_dataset_size(shards) == (len(due), 3), get_dataset_size(shards)
    print(f"equal: {len(due)} samples, {ways} ways")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    main()
