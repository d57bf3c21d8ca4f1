"""Training steps of a tiny CLIP as open_clip makes them, on torch's own threads. argv: threads. Prints one JSON line."""

import json
import statistics
import sys
import time

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP

BATCH, WARM_UP, STEPS, SECONDS = 32, 5, 40, 20
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
# trommel-tiny-32
vision = {"image_size": 32, "layers": 4, "width": 64, "head_width": 32, "patch_size": 8}
text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
model, loss_of = CLIP(64, vision, text), ClipLoss()
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
images = torch.randn(BATCH, 3, 32, 32)
captions = torch.randint(1, 49406, (BATCH, 77))
captions[:, 20:] = 0
captions[:, 19] = 49407
seconds = []
# Beside a neighbour a step can take seconds.
while len(seconds) < WARM_UP + STEPS and not (len(seconds) >= 2 * WARM_UP and sum(seconds) > SECONDS):
    began = time.perf_counter()
    optimiser.zero_grad()
    loss_of(*model(images, captions)).backward()
    optimiser.step()
    seconds.append(time.perf_counter() - began)
print(json.dumps({"samples_per_second": BATCH / statistics.median(seconds[WARM_UP:])}))
