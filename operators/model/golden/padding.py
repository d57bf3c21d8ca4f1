"""What open_clip's padded text tower gives for batches of captions of all lengths, in f64: `padding.py FOLDER` prints the files.

Peer: open_clip_torch 3.3.0 with torch 2.11.0 (CPU). The captions are those of the parquet file in TROMMEL_TEST_DATA where that is
set, and made ones. FOLDER/weights.pt is the model; of each batch, little-endian: `tokens` i64[n, 77], `features` f64[n, d],
`by_feature` f64[n, d] (the gradient that flows back from the features), and `grad.NAME` f64 of every parameter of the text tower.
"""

import json
import os
import random
import sys

import open_clip
import torch

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 32, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3},
}
folder = sys.argv[1]
with open(folder + "/padding-small.json", "w") as out:
    json.dump(CONFIG, out)
open_clip.add_model_config(folder + "/padding-small.json")
torch.manual_seed(0)
model = open_clip.create_model("padding-small")
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter += 0.1 * torch.randn_like(parameter)  # norms and biases that are not one and zero
        elif "embedding" in name:
            parameter *= 10
torch.save(model.state_dict(), folder + "/weights.pt")
model = model.double().train()
tokenize = open_clip.get_tokenizer("ViT-B-32")


def captions():
    data = os.environ.get("TROMMEL_TEST_DATA")
    if data:
        import pyarrow.parquet as parquet

        texts = parquet.read_table(data + "/captions/test_1000.parquet")["TEXT"].to_pylist()
        yield [text for text in texts if text is not None][:96]
    draw = random.Random(7)
    words = "a the photo of red dog cat house tree Zürich 1969 running quickly ;-) 猫".split()
    line = lambda count: " ".join(draw.choice(words) for _ in range(count))
    yield [line(draw.randint(0, 75)) for _ in range(48)]
    yield ["cat " * count for count in range(0, 76)]  # 2 to 77 tokens, each once
    yield ["", "", "one", ""]
    yield ["a dog"] * 9
    yield ["word " * 200] * 3
    yield ["word " * 200, "", "a dog"]
    yield ["alone"]


for number, texts in enumerate(captions()):
    tokens = tokenize(texts)
    model.zero_grad()
    features = model.encode_text(tokens)
    by_feature = torch.cos(torch.arange(features.numel(), dtype=torch.float64)).reshape(features.shape)
    features.backward(by_feature)
    put = {"tokens": tokens, "features": features.detach(), "by_feature": by_feature}
    put |= {"grad." + name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, tensor in put.items():
        tensor.contiguous().numpy().tofile(f"{folder}/{number}.{name}")
    print(json.dumps({"batch": number, "rows": len(texts), "files": sorted(put)}))
