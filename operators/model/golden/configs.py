"""open_clip's own model configurations: number of parameters of each that is a CLIP of plain towers, built without memory.

Peer: open_clip_torch, torch. Prints one JSON line a configuration: file, parameters (null: towers of timm or Hugging Face)."""

import glob
import json
import os

import open_clip
import torch

for path in sorted(glob.glob(os.path.join(os.path.dirname(open_clip.__file__), "model_configs", "*.json"))):
    config = json.load(open(path))
    parameters = None
    foreign = "timm_model_name" in config["vision_cfg"] or "hf_model_name" in config["text_cfg"]
    if not foreign and "multimodal_cfg" not in config:
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        with torch.device("meta"):
            parameters = sum(p.numel() for p in kind(**config).parameters())
    print(json.dumps({"file": path, "parameters": parameters}))
