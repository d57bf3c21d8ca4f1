"""What the old runs stand on, all of it small and well packed: a model whose vocabulary repeats, shards and pictures of few
colours. `inputs.py FOLDER`, with nothing but Python."""
import io, json, os, struct, sys, tarfile

WIDTH, VOCABULARY, PATCH, TOKENS, CONTEXT = 8, 49408, 8, 17, 77
state = 1


def number():
    global state
    state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
    return (state >> 40) / 2**23 - 1


def normal(count, scale):
    return [scale * number() for _ in range(count)]


def block(name):
    w = WIDTH
    yield f"{name}.ln_1.weight", [w], [1.0] * w
    yield f"{name}.ln_1.bias", [w], [0.0] * w
    yield f"{name}.attn.in_proj_weight", [3 * w, w], normal(3 * w * w, 0.3)
    yield f"{name}.attn.in_proj_bias", [3 * w], [0.0] * 3 * w
    yield f"{name}.attn.out_proj.weight", [w, w], normal(w * w, 0.3)
    yield f"{name}.attn.out_proj.bias", [w], [0.0] * w
    yield f"{name}.ln_2.weight", [w], [1.0] * w
    yield f"{name}.ln_2.bias", [w], [0.0] * w
    yield f"{name}.mlp.c_fc.weight", [4 * w, w], normal(4 * w * w, 0.3)
    yield f"{name}.mlp.c_fc.bias", [4 * w], [0.0] * 4 * w
    yield f"{name}.mlp.c_proj.weight", [w, 4 * w], normal(4 * w * w, 0.2)
    yield f"{name}.mlp.c_proj.bias", [w], [0.0] * w


def tensors():
    w = WIDTH
    yield "visual.class_embedding", [w], normal(w, 0.3)
    yield "visual.positional_embedding", [TOKENS, w], normal(TOKENS * w, 0.3)
    yield "visual.conv1.weight", [w, 3, PATCH, PATCH], normal(w * 3 * PATCH * PATCH, 0.05)
    yield "visual.ln_pre.weight", [w], [1.0] * w
    yield "visual.ln_pre.bias", [w], [0.0] * w
    yield from block("visual.transformer.resblocks.0")
    yield "visual.ln_post.weight", [w], [1.0] * w
    yield "visual.ln_post.bias", [w], [0.0] * w
    yield "visual.proj", [w, w], normal(w * w, 0.3)
    rows = [normal(w, 0.3) for _ in range(61)]
    yield "token_embedding.weight", [VOCABULARY, w], [x for row in range(VOCABULARY) for x in rows[row % 61]]
    yield "positional_embedding", [CONTEXT, w], normal(CONTEXT * w, 0.1)
    yield from block("transformer.resblocks.0")
    yield "ln_final.weight", [w], [1.0] * w
    yield "ln_final.bias", [w], [0.0] * w
    yield "text_projection", [w, w], normal(w * w, 0.3)
    yield "logit_scale", [], [2.6592600]


def weights(path):
    header, data = {}, b""
    for name, shape, values in tensors():
        packed = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)


def picture(side=32):
    """A BMP: tiles of two colours."""
    inks = [bytes(int(128 + 127 * number()) for _ in range(3)) for _ in range(2)]
    width, height, shift = (2 + int(3 + 3 * number()) for _ in range(3))
    rows = b"".join(inks[((x + y * (shift % 3)) // width + y // height) % 2] for y in range(side) for x in range(side))
    head = [54 + len(rows), 0, 54, 40, side, side, 0x180001, 0, len(rows), 2835, 2835, 0, 0]
    return b"BM" + struct.pack("<13I", *head) + rows


def shard(folder, number, samples=24):
    with tarfile.open(f"{folder}/{number:05}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in range(samples):
            words = "red green blue round square large small old new".split()
            caption = " ".join(words[int(4.5 + 4.5 * number_())] for _ in range(4))
            for ending, data in [("bmp", picture()), ("txt", caption.encode())]:
                member = tarfile.TarInfo(f"{number:05}{index:04}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    with open(f"{folder}/{number:05}_stats.json", "w") as out:
        json.dump({"count": samples, "successes": samples}, out)


number_ = number
root = sys.argv[1]
for folder in ["shards", "reference/a", "benchmark/a"]:
    os.makedirs(f"{root}/{folder}")
weights(f"{root}/weights.safetensors")
for count, folder in [(8, "reference/a"), (4, "benchmark/a")]:
    for index in range(count):
        with open(f"{root}/{folder}/{index}.bmp", "wb") as out:
            out.write(picture())
for ordinal in range(6):
    shard(f"{root}/shards", ordinal)
with open(f"{root}/model.json", "w") as out:
    vision = {"image_size": 32, "layers": 1, "width": WIDTH, "head_width": 8, "patch_size": PATCH}
    text = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 1, "layers": 1}
    json.dump({"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text}, out)
