"""Features of open_clip's towers on weights and inputs made by a formula; writes towers.json beside itself.

Peer: open_clip_torch 3.3.0 with torch 2.11.0 (CPU, f32). Run: python operators/model/golden/towers.py
The Rust side (operators/model/golden_tests.rs) makes the same weights and inputs and compares its features.

    mix, stream, bits: as in operators/model/random.rs, seed 0
    u(name, i)   = (bits(name, i) >> 40) * 2^-24 - 0.5                      in [-0.5, 0.5), exact
    weight       = f32(offset + scale * u), in f64 before rounding:
        layer norms' weight: offset 1, scale 0.4;  other one-dimensional parameters: offset 0, scale 0.2
        logit_scale: open_clip's;  class and positional embeddings: scale 1;  token embedding: scale 2
        proj, text_projection: scale sqrt(12 / rows);  other matrices: scale sqrt(12 / (product of all sizes but the first))
        (standard deviation 1 / sqrt(fan in); with twice that for in_proj_weight open_clip's own bf16 falls to cosine 0.995)
    pixel        = (x * (n + 1) + 2 * y + 85 * c + ((bits("image", ((n * 64 + y // 8) * 64 + x // 8) * 3 + c) >> 56) & 127)) & 255
    tokens       = 49406, 1 + (bits("text", 100 * n + j) >> 33) % 49405 for j < 5 + 30 * n, 49407, zeros
"""

import base64
import json
import os

import numpy as np
import open_clip
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
IMAGES = 3
TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 96, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}


def mix(z):
    z = np.asarray(z, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(name, index):
    with np.errstate(over="ignore"):
        h = mix(np.uint64(0))
        for b in name.encode():
            h = mix(h ^ np.uint64(b)) + GOLDEN
        return mix(h + (np.asarray(index, dtype=np.uint64) + np.uint64(1)) * GOLDEN)


def scale_and_offset(name, shape):
    if ".ln_" in "." + name and name.endswith(".weight"):
        return 0.4, 1.0
    if name.endswith("token_embedding.weight"):
        return 2.0, 0.0
    if name.endswith("class_embedding") or name.endswith("positional_embedding"):
        return 1.0, 0.0
    if len(shape) == 1:
        return 0.2, 0.0
    if name in ("visual.proj", "text_projection"):
        return float(np.sqrt(12.0 / shape[0])), 0.0
    return float(np.sqrt(12.0 / int(np.prod(shape[1:])))), 0.0


def fill(model):
    for name, parameter in model.named_parameters():
        if name == "logit_scale":
            continue
        shape = tuple(parameter.shape)
        scale, offset = scale_and_offset(name, shape)
        count = int(np.prod(shape))
        out = np.empty(count, dtype=np.float32)
        for start in range(0, count, 1 << 20):
            index = np.arange(start, min(count, start + (1 << 20)), dtype=np.uint64)
            u = (bits(name, index) >> np.uint64(40)).astype(np.float64) * 2.0**-24 - 0.5
            out[start : start + len(index)] = (offset + scale * u).astype(np.float32)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(out.reshape(shape)))


def pixels(size):
    n, y, x, c = np.meshgrid(np.arange(IMAGES), np.arange(size), np.arange(size), np.arange(3), indexing="ij")
    cell = ((n * 64 + y // 8) * 64 + x // 8) * 3 + c
    noise = (bits("image", cell.astype(np.uint64)) >> np.uint64(56)).astype(np.int64) & 127
    return ((x * (n + 1) + 2 * y + 85 * c + noise) & 255).astype(np.uint8)


def tokens():
    rows = np.zeros((IMAGES, 77), dtype=np.int64)
    for n in range(IMAGES):
        length = 5 + 30 * n
        ids = 1 + (bits("text", 100 * n + np.arange(length, dtype=np.uint64)) >> np.uint64(33)).astype(np.int64) % 49405
        rows[n, 0], rows[n, 1 : 1 + length], rows[n, 1 + length] = 49406, ids, 49407
    return torch.from_numpy(rows)


def b64(tensor):
    return base64.b64encode(tensor.numpy().astype("<f4").tobytes()).decode()


def main():
    cases = []
    for name in ["tiny", "ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16-plus-240"]:
        config = TINY if name == "tiny" else open_clip.get_model_config(name)
        model = open_clip.model.CLIP(**config).eval()
        fill(model)
        size = config["vision_cfg"]["image_size"]
        images = torch.from_numpy(pixels(size)).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
        std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
        with torch.no_grad():
            image = model.encode_image((images - mean) / std, normalize=True)
            text = model.encode_text(tokens(), normalize=True)
        print(name, "image cosines", (image @ image.T).numpy().round(3).tolist(), "text", (text @ text.T).numpy().round(3).tolist())
        case = {"name": name, "image": b64(image)}
        if name == "tiny":
            case["config"] = TINY
        if name in ("tiny", "ViT-B-32-quickgelu"):
            case["text"] = b64(text)
        cases.append(case)
        del model
    out = {
        "script": "operators/model/golden/towers.py",
        "peer": f"open_clip_torch {open_clip.__version__}, torch {torch.__version__.split('+')[0]}",
        "cases": cases,
    }
    with open(os.path.join(HERE, "towers.json"), "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
