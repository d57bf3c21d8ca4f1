"""The bare limits of the machine, and the Python stack's parts alone: forward pass, training step, join, decoders."""

import io
import multiprocessing
import tarfile
import time

import open_clip
import torch
from PIL import Image

from models import CORES, CUDA, DEVICE, HALF, MODELS, adamw, forget, rate, train_step


def limits():
    """Matrix product in bf16, copies from pinned memory to the device, copies on the device (bytes read and written)."""
    side, megabytes = (8192, 1024) if CUDA else (512, 32)
    a, b = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    found = {f"matrix product of {side}, bf16, TFLOP/s": rate(lambda: torch.mm(a, b), 2 * side**3 / 1e12, 0.6)}
    host = torch.empty(megabytes << 20, dtype=torch.uint8, pin_memory=CUDA)
    there, beside = (torch.empty(megabytes << 20, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    found["pinned memory to the device, GB/s"] = rate(lambda: there.copy_(host, non_blocking=True), (megabytes << 20) / 1e9, 0.4)
    found["copy on the device, GB/s read and written"] = rate(lambda: beside.copy_(there), 2 * (megabytes << 20) / 1e9, 0.3)
    return found


def embedder(model, batch, seconds):
    """Images a second of open_clip's eager forward pass alone (`pure_fp16`), the better of two batch sizes; they lie on the device."""
    size = MODELS.get(model)[0].visual.image_size
    size = size[0] if isinstance(size, (tuple, list)) else size
    made, found = MODELS.on_device(model, HALF), {}
    for rows in (batch, 4 * batch):
        images = torch.randn(rows, 3, size, size, device=DEVICE, dtype=HALF)
        with torch.inference_mode():
            found[f"batch {rows}"] = rate(lambda: made.encode_image(images, normalize=True), rows, seconds / 2)
    return {"per_second": max(found.values()), "of": found}


def step(model, batch, seconds, captions):
    """Samples a second of open_clip's training step alone: autocast in bf16, fused AdamW, batches on the device, captions padded to 77."""
    made, _, tokenizer = MODELS.train_parts(model)
    size = made.visual.image_size
    size = size[0] if isinstance(size, (tuple, list)) else size
    images = torch.randn(batch, 3, size, size, device=DEVICE)
    texts = tokenizer((captions * (batch // len(captions) + 1))[:batch])
    lengths = (texts != 0).sum(1).float()
    texts = texts.to(DEVICE)
    loss, optimiser = open_clip.ClipLoss(), adamw(made)
    found = rate(lambda: train_step(made, loss, optimiser, images, texts), batch, seconds)
    peak = torch.cuda.max_memory_allocated() / 2**30 if CUDA else None
    return {"per_second": found, "mean_tokens": float(lengths.mean()), "peak_card_gib": peak}


def join(points, dim, rows, seconds):
    """Rows a second of matmul and max over `points` unit vectors, f16 with f32 accumulation."""
    unit = lambda n: torch.nn.functional.normalize(torch.randn(n, dim, device=DEVICE), dim=1).to(HALF)
    queries, against = unit(rows), unit(points)
    with torch.inference_mode():
        return {"per_second": rate(lambda: (queries @ against.T).max(1), rows, seconds)}


def jpegs(shard):
    """The JPEGs of a shard."""
    with tarfile.open(shard) as tar:
        return [tar.extractfile(member).read() for member in tar if member.name.endswith(".jpg")]


def _decode(job):
    shard, size = job
    count = 0
    for data in jpegs(shard):
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        if size:
            scale = size / min(picture.size)
            wide, high = round(picture.width * scale), round(picture.height * scale)
            picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
            left, top = (wide - size) // 2, (high - size) // 2
            picture = picture.crop((left, top, left + size, top + size))
        picture.load()
        count += 1
    return count


def pillow(shards, size, processes):
    """Pictures a second of Pillow in `processes` processes: decoded only, and decoded with the view of `size` pixels (bicubic, centre)."""
    found = {}
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        pool.map(_decode, [(shards[0], None)] * processes, chunksize=1)
        for name, side in (("decode_only", None), ("with_view", size)):
            began = time.perf_counter()
            count = sum(pool.map(_decode, [(shard, side) for shard in shards], chunksize=1))
            found[name] = count / (time.perf_counter() - began)
    return {"per_second": found["with_view"], **found}


def nvjpeg(shards, seconds):
    """Pictures a second of torchvision's nvJPEG in groups of 256, decoded only, by one thread."""
    if not CUDA:
        return {"per_second": None, "failed": "no card"}
    from torchvision.io import decode_jpeg

    data = [torch.frombuffer(bytearray(picture), dtype=torch.uint8) for shard in shards for picture in jpegs(shard)]
    groups = [data[at:at + 256] for at in range(0, len(data) - 255, 256)]
    turn = iter(range(1 << 30))
    return {"per_second": rate(lambda: decode_jpeg(groups[next(turn) % len(groups)], device="cuda"), 256, seconds)}


__all__ = ["CORES", "embedder", "forget", "join", "limits", "nvjpeg", "pillow", "step"]
