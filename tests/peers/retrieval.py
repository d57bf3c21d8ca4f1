"""A retrieval set as clip_benchmark packs it, and what clip_benchmark's own zero-shot retrieval makes of it.

usage: retrieval.py PICTURES OUT MODEL.json WEIGHTS
PICTURES holds NAME.jpg and NAME.txt, a caption a line. Peers: clip-benchmark 1.6.2 (its converter, its reader, its metric), open_clip.
"""

import json
import sys
from pathlib import Path

import open_clip
import torch
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics import zeroshot_retrieval
from clip_benchmark.webdataset_builder import convert_retrieval_dataset, path_to_bytes

torch.set_num_threads(1)
pictures, out, model, weights = sys.argv[1:]
pairs = [
    (str(path), path.with_suffix(".txt").read_text(encoding="utf-8").splitlines())
    for path in sorted(Path(pictures).glob("*.jpg"))
]
convert_retrieval_dataset(pairs, "test", out, transform=path_to_bytes, max_count=17, verbose=False)

open_clip.add_model_config(model)
name = Path(model).stem
model, _, transform = open_clip.create_model_and_transforms(name, pretrained=weights)
dataset = build_dataset(f"wds/{out}", root=out, transform=transform, split="test", task="zeroshot_retrieval")
# As its command line has it.
loader = torch.utils.data.DataLoader(dataset.batched(16), batch_size=None, shuffle=False, num_workers=0)
metrics = zeroshot_retrieval.evaluate(
    model.eval(), loader, open_clip.get_tokenizer(name), device="cpu", amp=False, recall_k_list=[1, 5, 10]
)
print(json.dumps(metrics))
