"""Correctness on the card, against references that are not ours: open_clip with Pillow for features, exact sums in f64 for the join."""

import glob
import io
import json
import multiprocessing
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from models import CORES, DEVICE, MODELS


def _views(job):
    shard, start, stop, transform = job
    with tarfile.open(shard) as tar:
        names = [name for name in tar.getnames() if name.endswith(".jpg")][start:stop]
        pictures = [Image.open(io.BytesIO(tar.extractfile(name).read())) for name in names]
        return [name[:-4] for name in names], torch.stack([transform(picture) for picture in pictures]).numpy()


def features(model, shards, samples, out):
    """Unit features in f64 of open_clip's model in f32 on Pillow's views, of the first `samples` of each shard, to OUT with the keys."""
    made, transform = MODELS.on_device(model, torch.float32), MODELS.get(model)[1]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    jobs = [(shard, at, min(at + 32, samples), transform) for shard in shards for at in range(0, samples, 32)]
    keys, found = [], []
    try:
        # One thread a process: OpenMP does not outlive a fork.
        with multiprocessing.get_context("fork").Pool(min(CORES, len(jobs)), torch.set_num_threads, (1,)) as pool, torch.inference_mode():
            for names, views in pool.imap(_views, jobs, chunksize=1):
                keys += names
                found.append(made.encode_image(torch.from_numpy(views).to(DEVICE)).double().cpu())
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    found = torch.cat(found).numpy()
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    np.save(out, found)
    with open(out + ".keys.json", "w") as file:
        json.dump(keys, file)
    return {"rows": len(found)}


def stored(run):
    """The vectors that a run of ours keeps: their keys, their places (shard, index), f16[n, dim]."""
    keys, places, vectors = [], [], []
    for path in sorted(glob.glob(os.path.join(run, "embeddings", "*.arrow"))):
        with pa.OSFile(path) as source:
            table = pa.ipc.open_file(source).read_all()
        keys += table["key"].to_pylist()
        places += zip(table["shard"].to_pylist(), table["index"].to_pylist())
        vectors += [np.asarray(chunk.flatten()).astype(np.float16) for chunk in table["embedding"].chunks]
    width = sum(len(part) for part in vectors) // max(1, len(keys))
    return keys, places, np.concatenate(vectors).reshape(-1, width) if vectors else np.zeros((0, 0), np.float16)


def compare(left, right):
    """Two sets of features, each a run's folder or what `features` wrote; each row of `left` with the one of its key in `right`."""
    def read(place):
        if os.path.isdir(place):
            keys, _, vectors = stored(place)
            return keys, vectors
        with open(place + ".keys.json") as file:
            return json.load(file), np.load(place)

    (a_keys, a), (b_keys, b) = read(left), read(right)
    at = {key: row for row, key in enumerate(b_keys)}
    pairs = [(row, at[key]) for row, key in enumerate(a_keys) if key in at]
    if not pairs:
        return {"rows": 0}
    rows, others = (np.array(side) for side in zip(*pairs))
    x, y = a[rows].astype(np.float64), b[others].astype(np.float64)
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    differ = np.abs(x - y)
    return {
        "rows": len(pairs),
        "missing": len(a_keys) - len(pairs),
        "equal_to_the_bit": bool(a.dtype == b.dtype and np.array_equal(a[rows], b[others])),
        "rows_that_differ": int((differ > 0).any(1).sum()),
        "largest_difference": float(differ.max()),
        "mean_difference": float(differ.mean()),
        "smallest_cosine": float(cosines.min()),
    }


def points(folder, count, of_features, drop, seed):
    """A benchmark of `count` random unit vectors whose radii drop about a share of `drop` of pictures like those of `of_features`.

    radius_i = mean_i + c sigma_i over these pictures' similarities with point i; c is the quantile at which that share exceeds one radius
    at least.
    """
    queries = torch.from_numpy(np.load(of_features)).to(DEVICE)
    torch.manual_seed(seed)
    vectors = torch.randn(count, queries.shape[1], dtype=torch.float64, device=DEVICE)
    vectors = torch.nn.functional.normalize(vectors, dim=1).to(torch.float16)
    largest = torch.full((len(queries),), -torch.inf, dtype=torch.float64, device=DEVICE)
    means, sigmas = [], []
    for part in vectors.split(8192):
        similarities = queries @ part.double().T
        mean, sigma = similarities.mean(0), similarities.std(0).clamp_min(1e-6)
        means.append(mean)
        sigmas.append(sigma)
        largest = torch.maximum(largest, ((similarities - mean) / sigma).amax(1))
    radii = torch.cat(means) + torch.quantile(largest, 1 - drop) * torch.cat(sigmas)
    radii = radii.clamp(-1, 1).cpu().numpy()
    flat = pa.array(vectors.cpu().numpy().reshape(-1))
    table = pa.table({
        "key": [f"{number:06d}" for number in range(count)],
        "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        "radius": radii,
    })
    os.makedirs(folder, exist_ok=True)
    with pa.OSFile(os.path.join(folder, "embeddings.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=65536)
    return {"points": count, "dim": vectors.shape[1]}


def ledger(run):
    """A run's ledger as one table, in the order of its shards."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(glob.glob(os.path.join(run, "ledger", "*.parquet"))))


def join(run, benchmark, name, rows=4096):
    """Recomputes a run's scores from its stored vectors in f64, where sums of products of f16 are exact, and compares to the bit."""
    from loaders import points as read_points

    table = ledger(run)
    _, places, vectors = stored(run)
    at = {place: row for row, place in enumerate(places)}
    places = zip(table["shard"].to_pylist(), table["index"].to_pylist())
    judged = [(row, at[place]) for row, place in enumerate(places) if place in at][:rows]
    against, _ = read_points(benchmark)
    against = against.double()
    with pa.OSFile(os.path.join(benchmark, "embeddings.arrow")) as source:
        radii = torch.from_numpy(np.asarray(pa.ipc.open_file(source).read_all()["radius"], dtype=np.float64)).to(DEVICE)
    column = lambda kind: table[f"{kind}.{name}"].to_numpy(zero_copy_only=False)
    theirs = {kind: column(kind) for kind in ("max_similarity", "nearest", "margin", "exceeds", "hits")}
    status = table["status"].to_pylist()
    wrong, first = dict.fromkeys([*theirs, "decision"], 0), {}
    dropped = hits_total = 0
    numbers = torch.arange(len(against), device=DEVICE)
    first_of = lambda mask: torch.where(mask, numbers, len(against)).amin(1)  # Ties go to the lowest index.
    for start in range(0, len(judged), 256):
        part = judged[start:start + 256]
        queries = torch.from_numpy(vectors[[row for _, row in part]].astype(np.float64)).to(DEVICE)
        similarities = queries @ against.T
        margins = similarities - radii
        largest, margin = similarities.amax(1), margins.amax(1)
        exact = {
            "max_similarity": largest, "nearest": first_of(similarities == largest[:, None]),
            "margin": margin, "exceeds": first_of(margins == margin[:, None]), "hits": (margins > 0).sum(1),
        }
        exact = {kind: values.cpu().numpy() for kind, values in exact.items()}
        for number, (row, _) in enumerate(part):
            for kind, values in exact.items():
                said, right = theirs[kind][row], values[number]
                absent = said is None or said != said
                # `exceeds` names a point only where one is exceeded.
                same = (absent or said == right) if kind == "exceeds" and exact["margin"][number] <= 0 else not absent and said == right
                if not same:
                    wrong[kind] += 1
                    first.setdefault(kind, f"row {row}: {said} is written, {right} is right")
            drop = exact["hits"][number] > 0
            dropped += int(drop)
            hits_total += int(exact["hits"][number])
            if (status[row] == "dropped") != drop:
                wrong["decision"] += 1
                first.setdefault("decision", f"row {row}: {status[row]}, though {exact['hits'][number]} radii are exceeded")
    return {"rows": len(judged), "wrong": wrong, "first": first, "dropped": dropped, "hits": hits_total,
            "equal_to_the_bit": bool(judged) and not any(wrong.values())}


def same_ledgers(left, right):
    """Whether two runs decided and scored alike: every column of their ledgers."""
    a, b = ledger(left), ledger(right)
    differ = [name for name in a.column_names if name not in b.column_names or not a[name].equals(b[name])]
    return {"rows": len(a), "rows_beside": len(b), "columns_that_differ": differ, "equal": len(a) == len(b) and not differ}
