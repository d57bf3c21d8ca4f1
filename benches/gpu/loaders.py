"""The Python stack, composed: webdataset's loader, Pillow and open_clip's transform in worker processes, open_clip's model on the card.

Rates are of the steady state: the first `PREFETCH` rounds of batches (one of each worker), which were made while nothing consumed,
are not counted; then whole rounds, since workers that began together deliver together.
"""

import os
import time

import numpy as np
import open_clip
import torch
import webdataset as wds

from models import CUDA, DEVICE, HALF, MODELS, adamw, forget, sync, train_step

PREFETCH = 2


def loader(shards, transform, batch, workers, tokenizer=None, shuffle=0):
    """Batches without end, as open_clip's trainer makes them: shards drawn with replacement."""
    data = wds.WebDataset(shards, resampled=True, shardshuffle=False, empty_check=False, seed=0)
    if shuffle:
        data = data.shuffle(shuffle, initial=min(shuffle, 1000))
    data = data.decode("pilrgb").rename(image="jpg", text="txt")
    if tokenizer is None:
        data = data.map_dict(image=transform).to_tuple("image", "__key__")
    else:
        data = data.map_dict(image=transform, text=lambda text: tokenizer(text)[0]).to_tuple("image", "text")
    data = data.batched(batch, partial=False)
    more = {"prefetch_factor": PREFETCH} if workers else {}
    return iter(wds.WebLoader(data, batch_size=None, shuffle=False, num_workers=workers, pin_memory=CUDA, **more))


def rounds(batches, use, batch, workers, seconds, warm=PREFETCH):
    """Samples a second: `warm` rounds uncounted, then whole rounds until `seconds` are over."""
    width = max(1, workers)
    for _ in range(warm * width):
        use(next(batches))
    sync()
    began, count = time.perf_counter(), 0
    while True:
        for _ in range(width):
            use(next(batches))
            count += batch
        sync()
        took = time.perf_counter() - began
        if took >= seconds:
            return count / took, count


def points(folder):
    """A benchmark's vectors and radii, on the device."""
    import pyarrow as pa

    with pa.OSFile(os.path.join(folder, "embeddings.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    vectors = np.concatenate([np.asarray(chunk.flatten()) for chunk in table["embedding"].chunks])
    vectors = torch.from_numpy(vectors.astype(np.float16).reshape(len(table), -1)).to(DEVICE, HALF)
    return vectors, torch.from_numpy(np.asarray(table["radius"], dtype=np.float64)).to(DEVICE, torch.float32)


def prune(model, shards, batch, workers, benchmarks, seconds):
    """Images a second that are loaded, embedded, joined with each benchmark in turn (none: embedded only) and decided."""
    made, transform = MODELS.on_device(model, HALF), MODELS.get(model)[1]
    batches = loader(shards, transform, batch, workers)
    found, warm = {}, PREFETCH
    try:
        for name, folder in (benchmarks or {"": None}).items():
            vectors, radii = points(folder) if folder else (None, None)
            kept, seen, best = [], 0, None

            def use(item):
                nonlocal seen, best
                features = made.encode_image(item[0].to(DEVICE, non_blocking=True).to(HALF), normalize=True)
                if vectors is None:
                    kept.append(features.cpu())
                    return
                products = features @ vectors.T
                best = products.max(1)
                mask = (products > radii).any(1).cpu()
                kept.extend(key for key, drop in zip(item[1], mask.tolist()) if not drop)
                seen += len(mask)

            with torch.inference_mode():
                use(next(batches))  # What the device compiles and allocates at first.
                rate, counted = rounds(batches, use, batch, workers, seconds, warm)
            warm = 0
            found[name] = {"per_second": rate, "counted": counted, "dropped": 1 - len(kept) / seen if seen else None}
            del vectors, radii
    finally:
        del batches
    del made
    return found


def train(model, shards, batch, part, workers, seconds):
    """Samples a second of open_clip's training from shards, and the losses: loader batches of `part`, put together on the device."""
    made, transform, tokenizer = MODELS.train_parts(model)
    loss, optimiser = open_clip.ClipLoss(), adamw(made)
    batches = loader(shards, transform, part, workers, tokenizer, shuffle=2000)
    held, losses = [], []

    def use(item):
        held.append([tensor.to(DEVICE, non_blocking=True) for tensor in item])
        if len(held) * part >= batch:
            images, texts = (torch.cat(tensors) for tensors in zip(*held))
            losses.append(train_step(made, loss, optimiser, images, texts))
            held.clear()

    try:
        # A first step before anything is counted: cuDNN and the optimiser's state.
        for _ in range(batch // part):
            use(next(batches))
        rate, counted = rounds(batches, use, part, workers, seconds)
    finally:
        del batches
    return {"per_second": rate, "counted": counted, "losses": [round(float(value), 4) for value in losses]}


__all__ = ["forget", "prune", "train"]
