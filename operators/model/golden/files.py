"""Small files as open_clip and torch write them: a checkpoint of open_clip's trainer, state dictionaries, safetensors, a TorchScript encoder.

Peer: open_clip_torch 3.3.0, torch 2.11.0, safetensors. Run: python operators/model/golden/files.py
Writes into files/ beside itself, with files.json: the model's configuration, the fingerprint of its weights
(sha256 as operators/model/weights.rs defines it), and the TorchScript encoder's features of formula-made views.
"""

import base64
import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from towers import fill, pixels

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "../../train/golden"))
from trainer import known, train  # noqa: E402

OUT = os.path.join(HERE, "files")
CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8},
    "text_cfg": {"context_length": 5, "vocab_size": 16, "width": 8, "heads": 2, "layers": 1},
}


class Script(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = torch.nn.Conv2d(3, 6, 8, 8)
        self.out = torch.nn.Linear(6, 10)

    @torch.jit.export
    def encode_image(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.patch(x)).mean(dim=[2, 3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encode_image(x)


def fingerprint(state):
    h = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].float().contiguous()
        h.update(struct.pack("<Q", len(name.encode())) + name.encode() + struct.pack("<Q", tensor.dim()))
        h.update(b"".join(struct.pack("<q", side) for side in tensor.shape) + tensor.numpy().astype("<f4").tobytes())
    return h.hexdigest()


def main():
    os.makedirs(OUT, exist_ok=True)
    model = open_clip.model.CLIP(**CONFIG).eval()
    fill(model)
    state = model.state_dict()
    turned = {name: (tensor.t().contiguous().t() if tensor.dim() == 2 else tensor) for name, tensor in state.items()}
    torch.save({"_orig_mod." + name: tensor for name, tensor in turned.items()}, os.path.join(OUT, "turned.pt"))
    torch.save(model.state_dict(), os.path.join(OUT, "state_dict.pt"))
    # By open_clip's own trainer, whose steps at a learning rate of zero leave the weights where they are.
    with tempfile.TemporaryDirectory() as folder:
        known(folder, "files", CONFIG)
        words = ["--model", "files", "--pretrained", os.path.join(OUT, "state_dict.pt"), "--precision", "fp32"]
        batch = torch.from_numpy(pixels(16)).permute(0, 3, 1, 2).float() / 255, torch.arange(15).reshape(3, 5)
        train(folder, "golden", [batch], [*words, "--epochs", "3", "--lr", "0", "--warmup", "1"])
        shutil.copy(f"{folder}/golden/checkpoints/epoch_3.pt", os.path.join(OUT, "checkpoint.pt"))
    torch.save(model.state_dict(), os.path.join(OUT, "legacy.pt"), _use_new_zipfile_serialization=False)
    halves = {name: tensor.half() for name, tensor in state.items()}
    torch.save(halves, os.path.join(OUT, "half.pt"))
    save_file(state, os.path.join(OUT, "model.safetensors"), metadata={"format": "pt"})

    script = Script().eval()
    fill(script)
    compiled = torch.jit.script(script)
    compiled.save(os.path.join(OUT, "encoder.torchscript.pt"))
    views = torch.from_numpy(pixels(16)).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    with torch.no_grad():
        features = compiled.encode_image((views - mean) / std).numpy().astype("<f4")
    out = {
        "script": "operators/model/golden/files.py",
        "peer": f"open_clip_torch {open_clip.__version__}, torch {torch.__version__.split('+')[0]}",
        "config": CONFIG,
        "fingerprint": fingerprint(state),
        "fingerprint_half": fingerprint(halves),
        "script_features": base64.b64encode(features.tobytes()).decode(),
    }
    with open(os.path.join(HERE, "files.json"), "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
