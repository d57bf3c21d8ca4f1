"""Steps of open_clip's own trainer with --siglip: `siglip_steps.py FOLDER STEPS SAMPLES`.

Peer: open_clip_torch 3.3.0 (open_clip_train.main, by trainer.py). Of two models, a SigLIP and a CLIP with a logit bias: FOLDER/NAME.json,
NAME.pt before the first step, and the trainer's checkpoints NAME.first/checkpoints/epoch_1.pt after that step, NAME.last/checkpoints/epoch_1.pt
after all. Batch K is pixels.K and tokens.K. Prints a JSON line a model: name, losses."""

import json
import math
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../model/golden"))
import siglip  # noqa: E402

from trainer import train  # noqa: E402

folder, steps, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
batches = [siglip.batch(100 + k, samples) for k in range(steps)]
for k, (pixels, tokens) in enumerate(batches):
    siglip.put(f"{folder}/pixels.{k}", pixels)
    siglip.put(f"{folder}/tokens.{k}", tokens)
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
RECIPE = "--siglip --precision fp32 --epochs 1 --lr 1e-3 --beta1 0.9 --beta2 0.98 --eps 1e-6 --wd 0.2 --lr-scheduler const --warmup 0"
for name, config, mean_std in [
    ("tiny", siglip.TINY, ((0.5,) * 3, (0.5,) * 3)),
    ("biased-clip", siglip.CLIP, OPENAI),
]:
    torch.manual_seed(1)
    model = siglip.shaken(siglip.build(folder, name, config, {"init_logit_scale": math.log(10)}))
    torch.save(model.state_dict(), f"{folder}/{name}.pt")
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in mean_std)
    given = [((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std, tokens) for pixels, tokens in batches]
    words = ["--model", name, "--pretrained", f"{folder}/{name}.pt", *RECIPE.split()]
    train(folder, f"{name}.first", given[:1], words)
    print(json.dumps({"name": name, "losses": train(folder, f"{name}.last", given, words)}))
