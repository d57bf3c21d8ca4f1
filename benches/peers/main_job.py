"""The main job as it is done today: webdataset, Pillow, open_clip, FAISS. argv: model, shards, folder of the benchmark's embeddings.

Prints one JSON line. Time is taken from the first sample to the last score; the model is made before.
"""

import json
import pathlib
import sys
import tempfile
import time

import faiss
import numpy as np
import open_clip
import pyarrow as pa
import torch
import webdataset as wds

model_name, shards, benchmark = sys.argv[1:4]
BATCH = 32
with pa.OSFile(benchmark + "/embeddings.arrow") as source:
    column = pa.ipc.open_file(source).read_all()["embedding"].combine_chunks()
points = np.asarray(column.flatten()).astype(np.float32).reshape(len(column), -1)
index = faiss.IndexFlatIP(points.shape[1])
index.add(points)
TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
with tempfile.TemporaryDirectory() as models:
    (pathlib.Path(models) / "trommel-tiny-32.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(models)
torch.manual_seed(0)
model, _, preprocess = open_clip.create_model_and_transforms(model_name)
model.eval()
dataset = (
    wds.WebDataset(shards, shardshuffle=False)
    .decode("pil", handler=wds.ignore_and_continue)
    .to_tuple("jpg", "__key__", handler=wds.ignore_and_continue)
    .map_tuple(preprocess, lambda key: key)
)
loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=1)
started, count, dropped, forward = time.perf_counter(), 0, 0, 0.0
with torch.no_grad():
    for images, _ in loader:
        began = time.perf_counter()
        features = model.encode_image(images, normalize=True)
        forward += time.perf_counter() - began
        largest, _ = index.search(features.numpy(), 1)
        dropped += int((largest[:, 0] > 0.95).sum())
        count += len(images)
seconds = time.perf_counter() - started
batch = torch.randn(BATCH, 3, *images.shape[2:])
with torch.no_grad():
    model.encode_image(batch)
    began = time.perf_counter()
    for _ in range(3):
        model.encode_image(batch)
    alone = time.perf_counter() - began
print(json.dumps({
    "samples": count,
    "dropped": dropped,
    "samples_per_second": count / seconds,
    "forward_only_per_second": 3 * BATCH / alone,
}))
