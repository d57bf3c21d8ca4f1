"""open_clip's SigLIP beside ours: `siglip.py FOLDER` prints JSON lines.

Peer: open_clip_torch 3.3.0 with timm 1.0 and torch 2.11.0 (CPU). `config`: each of open_clip's files of a SigLIP, with the number
of its parameters. `order`: the names of a small one's parameters, as `named_parameters` has them. `first`: what they are drawn
from. FOLDER/weights.pt is the small one with norms and biases that are not one and zero; `images` u8[n, 32, 32, 3] and `tokens`
i64[n, 64] are files there, and `image` and `text` its features, f32.
"""

import glob
import json
import os
import sys

import open_clip
import timm
import torch

TOWER = "trommel_tiny_patch8_siglip_32"


def trommel_tiny_patch8_siglip_32(num_classes, global_pool, **_about_pretrained):
    return timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, class_token=False,
        num_classes=num_classes, global_pool=global_pool,
    )


trommel_tiny_patch8_siglip_32.__module__ = "timm.models.vision_transformer"
timm.models.register_model(trommel_tiny_patch8_siglip_32)

TEXT = {
    "context_length": 64, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2, "no_causal_mask": True,
    "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
}
TINY = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 32, "timm_model_name": TOWER, "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": TEXT,
}
# CLIP's towers under the same loss: open_clip_train's --siglip.
CLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "init_logit_scale": 2.302585092994046,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 64, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def build(folder, name, config, extra=None):
    with open(f"{folder}/{name}.json", "w") as out:
        json.dump(config, out)
    open_clip.add_model_config(f"{folder}/{name}.json")
    return open_clip.create_model(name, **(extra or {}))


def shaken(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("logit"):
                continue
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
            elif "embed" in name or "latent" in name:
                parameter *= 10
    return model


def batch(number, samples):
    """Pixels u8[n, 32, 32, 3] and tokens i64[n, 64] that go together."""
    draw = torch.Generator().manual_seed(number)
    classes = torch.randint(0, 40, (samples,), generator=draw)
    each = [torch.Generator().manual_seed(1000 + int(c)) for c in classes]
    pixels = torch.stack([torch.randint(0, 256, (32, 32, 3), generator=g, dtype=torch.uint8) for g in each])
    tokens = torch.zeros(samples, 64, dtype=torch.long)
    for row, g in zip(tokens, each):
        count = int(torch.randint(1, 20, (1,), generator=g))
        row[0], row[1 + count] = 49406, 49407
        row[1 : 1 + count] = torch.randint(1, 49405, (count,), generator=g)
    return pixels, tokens


def images_of(pixels):
    mean = std = torch.full((1, 3, 1, 1), 0.5)
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def put(path, tensor):
    tensor.detach().contiguous().numpy().tofile(path)


def main(folder):
    for path in sorted(glob.glob(os.path.join(os.path.dirname(open_clip.__file__), "model_configs", "*SigLIP*.json"))):
        config = json.load(open(path))
        config.pop("custom_text")
        with torch.device("meta"):
            model = open_clip.CustomTextCLIP(**config)
        print(json.dumps({"config": path, "parameters": sum(p.numel() for p in model.parameters())}))
    torch.manual_seed(0)
    # As open_clip_train's --siglip makes it.
    model = build(folder, "tiny", TINY, {"init_logit_scale": 2.302585092994046})
    print(json.dumps({"order": [name for name, _ in model.named_parameters()]}))
    for name, p in model.named_parameters():
        values = p.detach().flatten()
        std = float(values.std()) if values.numel() > 1 else 0.0
        first = {"mean": float(values.mean()), "std": std, "largest": float(values.abs().max()), "count": values.numel()}
        print(json.dumps({"first": name} | first))
    model = shaken(model).eval()
    torch.save(model.state_dict(), folder + "/weights.pt")
    pixels, tokens = batch(0, 5)
    put(folder + "/pixels", pixels)
    put(folder + "/tokens", tokens)
    with torch.no_grad():
        put(folder + "/image", model.encode_image(images_of(pixels)))
        put(folder + "/text", model.encode_text(tokens))


if __name__ == "__main__":
    main(sys.argv[1])
