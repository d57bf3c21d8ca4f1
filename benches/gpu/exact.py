"""Correctness on the card, against references that are not ours: open_clip with Pillow for features, exact sums in f64 for the join."""

import glob
import io
import json
import multiprocessing
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.compute
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


def parts(run, kind):
    """A run's tables of a kind as one, in the order of the plan, with each row's shard as `part`."""
    paths = glob.glob(os.path.join(run, kind, "*.parquet"))
    ordinal = lambda path: int(os.path.basename(path).split(".")[0])
    tables = [(ordinal(path), pq.read_table(path)) for path in sorted(paths, key=ordinal)]
    return pa.concat_tables(table.append_column("part", pa.array(np.full(len(table), at))) for at, table in tables)


def column(table, name):
    """A column as f64, null as nan: all of them hold numbers that f64 has."""
    return table[name].to_numpy(zero_copy_only=False).astype(np.float64)


def join(run, benchmark, name):
    """Recomputes a run's scores, decisions and items from its stored vectors in f64, where sums of products of f16 are exact; to the bit."""
    from loaders import points as read_points

    table = parts(run, "ledger")
    _, places, vectors = stored(run)
    at = {place: row for row, place in enumerate(places)}
    places = zip(table["shard"].to_pylist(), table["index"].to_pylist())
    judged, rows = (np.array(side) for side in zip(*((row, at[place]) for row, place in enumerate(places) if place in at)))
    table = table.take(judged)
    ids = np.stack([column(table, "part"), column(table, "index")])
    against = read_points(benchmark)[0].double()
    with pa.OSFile(os.path.join(benchmark, "embeddings.arrow")) as source:
        radii = torch.from_numpy(np.asarray(pa.ipc.open_file(source).read_all()["radius"], dtype=np.float64)).to(DEVICE)
    # Ties go to the lowest index, of points as of rows.
    first = lambda mask, of: torch.where(mask, torch.arange(mask.shape[of], device=DEVICE).view(-1, 1) if of == 0 else
                                         torch.arange(mask.shape[of], device=DEVICE), mask.shape[of]).amin(of)
    exact = {kind: [] for kind in ("max_similarity", "nearest", "margin", "exceeds", "hits")}
    peaks = {kind: (torch.full_like(radii, -torch.inf), torch.zeros_like(radii, dtype=torch.int64)) for kind in ("all", "kept")}
    point_hits = torch.zeros_like(radii)
    for start in range(0, len(rows), 256):
        similarities = torch.from_numpy(vectors[rows[start:start + 256]].astype(np.float64)).to(DEVICE) @ against.T
        margins = similarities - radii
        largest, margin, hits = similarities.amax(1), margins.amax(1), (margins > 0).sum(1)
        found = (largest, first(similarities == largest[:, None], 1), margin, first(margins == margin[:, None], 1), hits)
        for kind, values in zip(exact, found):
            exact[kind].append(values.double().cpu())
        point_hits += (margins > 0).sum(0)
        del margins
        for kind, values in (("all", similarities), ("kept", similarities.masked_fill((hits > 0)[:, None], -torch.inf))):
            peak = values.amax(0)
            higher = peak > peaks[kind][0]
            row = start + first(values == peak, 0)
            peaks[kind] = (torch.where(higher, peak, peaks[kind][0]), torch.where(higher, row, peaks[kind][1]))
    exact = {kind: torch.cat(values).numpy() for kind, values in exact.items()}
    wrong, examples = {}, {}

    def compare(what, said, right, where=None):
        differ = (said != right) & (~np.isnan(said) | ~np.isnan(right))
        differ &= where if where is not None else True
        wrong[what] = int(differ.sum())
        if wrong[what]:
            row = int(np.argmax(differ))
            examples[what] = f"row {row}: {float(said[row])!r} is written, {float(right[row])!r} is right"

    for kind, right in exact.items():
        said = column(table, f"{kind}.{name}")
        # A point is named as exceeded only where one is.
        compare(kind, said, right, (exact["margin"] > 0) | ~np.isnan(said) if kind == "exceeds" else None)
    dropped = np.array(table["status"].to_pylist()) == "dropped"
    compare("decision", dropped.astype(np.float64), (exact["hits"] > 0).astype(np.float64))

    items = parts(run, "items")
    items = items.filter(pa.compute.equal(items["benchmark"], name))
    point = column(items, "point").astype(np.int64)
    hits = np.zeros(len(radii))
    np.add.at(hits, point, column(items, "hits"))
    compare("points' hits", hits, point_hits.cpu().numpy())
    for kind, before in (("all", ""), ("kept", "kept_")):
        value = column(items, before + "max_similarity")
        sample = [column(items, before + part) for part in ("ordinal", "index")]
        order = np.lexsort((sample[1], sample[0], -np.nan_to_num(value, nan=-9.0), point))
        order = order[np.unique(point[order], return_index=True)[1]]
        merged = [np.full(len(radii), np.nan) for _ in range(3)]
        for into, of in zip(merged, (value, *sample)):
            into[point[order]] = of[order]
        peak, row = (tensor.cpu().numpy() for tensor in peaks[kind])
        right = np.where(np.isinf(peak), np.nan, peak)
        compare(f"points' {before}max_similarity", merged[0], right)
        for of, into, right_id in (("ordinal", merged[1], ids[0][row]), ("index", merged[2], ids[1][row])):
            compare(f"points' {before}{of}", into, np.where(np.isnan(right), np.nan, right_id))
    return {"rows": len(rows), "points": len(radii), "wrong": {k: v for k, v in wrong.items() if v}, "first": examples,
            "dropped": int(dropped.sum()), "hits": int(exact["hits"].sum()), "equal_to_the_bit": len(rows) > 0 and not any(wrong.values())}


def same_ledgers(left, right):
    """Whether two runs decided and scored alike: every column of their ledgers."""
    a, b = parts(left, "ledger"), parts(right, "ledger")
    differ = [name for name in a.column_names if name not in b.column_names or not a[name].equals(b[name])]
    return {"rows": len(a), "rows_beside": len(b), "columns_that_differ": differ, "equal": len(a) == len(b) and not differ}
