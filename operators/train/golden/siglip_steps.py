"""Steps of open_clip's own training loop under SigLipLoss: `siglip_steps.py FOLDER STEPS SAMPLES`.

Peer: open_clip_torch 3.3.0 (open_clip_train's groups of parameters, AdamW, the clamp of the logit scale). Of two models, a SigLIP and
a CLIP with a logit bias: FOLDER/NAME.json, NAME.pt before the first step, NAME.grad.PARAMETER of the first step, NAME.after.pt with
weights and optimiser after the last. Batch K is pixels.K and tokens.K. Prints a JSON line a model: name, losses."""

import json
import math
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../model/golden"))
import siglip  # noqa: E402

from open_clip.loss import SigLipLoss  # noqa: E402

folder, steps, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
batches = [siglip.batch(100 + k, samples) for k in range(steps)]
for k, (pixels, tokens) in enumerate(batches):
    siglip.put(f"{folder}/pixels.{k}", pixels)
    siglip.put(f"{folder}/tokens.{k}", tokens)
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
for name, config, mean_std in [
    ("tiny", siglip.TINY, ((0.5,) * 3, (0.5,) * 3)),
    ("biased-clip", siglip.CLIP, OPENAI),
]:
    torch.manual_seed(1)
    model = siglip.shaken(siglip.build(folder, name, config, {"init_logit_scale": math.log(10)})).train()
    torch.save(model.state_dict(), f"{folder}/{name}.pt")
    exclude = lambda n, p: p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if exclude(n, p)], "weight_decay": 0.0},
        {"params": [p for n, p in named if not exclude(n, p)], "weight_decay": 0.2},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6)
    loss_of, losses = SigLipLoss(), []
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in mean_std)
    for k, (pixels, tokens) in enumerate(batches):
        optimizer.zero_grad()
        images = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
        loss = loss_of(*model(images, tokens))
        loss.backward()
        if k == 0:
            for n, p in named:
                siglip.put(f"{folder}/{name}.grad.{n}", p.grad)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(float(loss))
    torch.save({"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{folder}/{name}.after.pt")
    print(json.dumps({"name": name, "losses": losses, "parameters": [n for n, _ in named]}))
