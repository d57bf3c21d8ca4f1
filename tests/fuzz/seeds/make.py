"""Makes the small files that the fuzz targets begin with: `python make.py` beside this file.

Made by Pillow 13.0, numpy 2.4, pyarrow 26.0, torch 2.11 and safetensors. Programs of others write variants of the formats that
our own writers do not.
"""
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save

HERE = Path(__file__).parent
RANDOM = np.random.default_rng(7)


def put(folder, name, content):
    path = HERE / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def picture(mode, width=17, height=13):
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    rgb = np.stack([across * 14, down * 19, (across + down) * 8], axis=-1) % 256
    return Image.fromarray(rgb.astype(np.uint8)).convert(mode)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pictures():
    rgb = picture("RGB")
    for name, image, options in [
        ("420", rgb, {"subsampling": 2}),
        ("444", rgb, {"subsampling": 0, "quality": 95}),
        ("422_restarts", rgb, {"subsampling": 1, "restart_marker_blocks": 1}),
        ("progressive", rgb, {"progressive": True}),
        ("grey", picture("L"), {}),
        ("grey_progressive", picture("L"), {"progressive": True}),
        ("cmyk", picture("CMYK"), {}),
        ("rgb", rgb, {"keep_rgb": True}),
        ("comment", rgb, {"comment": b"x" * 40, "optimize": True}),
    ]:
        put("jpeg", name, saved(image, "JPEG", **options))
    wide = Image.fromarray(RANDOM.integers(0, 65536, (5, 7)).astype(np.uint16))
    for name, image, options in [
        ("rgb", rgb, {}),
        ("rgba", picture("RGBA"), {}),
        ("grey_alpha", picture("LA"), {}),
        ("palette", rgb.quantize(7), {"transparency": 3}),
        ("bits", picture("1"), {}),
        ("wide", wide, {}),
        ("animated", rgb, {"save_all": True, "append_images": [picture("L").convert("RGB")]}),
    ]:
        put("png", name, saved(image, "PNG", **options))
    for name, image, options in [
        ("plain", rgb.quantize(9), {}),
        ("interlaced", picture("L"), {"interlace": 1}),
        ("animated", rgb.quantize(5), {"save_all": True, "append_images": [rgb.rotate(90).quantize(5)], "transparency": 1}),
    ]:
        put("gif", name, saved(image, "GIF", **options))
    for name, image, options in [
        ("raw", rgb, {}),
        ("lzw", rgb, {"compression": "tiff_lzw"}),
        ("deflate", picture("L"), {"compression": "tiff_adobe_deflate"}),
        ("packbits", picture("RGBA"), {"compression": "packbits"}),
        ("bits", picture("1"), {"compression": "group4"}),
        ("wide", wide, {}),
        ("cmyk", picture("CMYK"), {}),
        ("palette", rgb.quantize(5), {}),
        ("turned", rgb, {"tiffinfo": {274: 6}}),
        ("jpeg", rgb, {"compression": "jpeg"}),
    ]:
        put("tiff", name, saved(image, "TIFF", **options))
    for name, image, options in [
        ("lossy", rgb, {}),
        ("lossless", rgb, {"lossless": True}),
        ("alpha", picture("RGBA"), {"quality": 40}),
        ("animated", rgb, {"save_all": True, "append_images": [rgb.rotate(180)], "lossless": True}),
    ]:
        put("webp", name, saved(image, "WEBP", **options))
    for name, image in [("rgb", rgb), ("bits", picture("1")), ("palette", rgb.quantize(9)), ("rgba", picture("RGBA"))]:
        put("bmp", name, saved(image, "BMP"))
    for name, image in [("p6", rgb), ("p5", picture("L")), ("p4", picture("1")), ("p5_wide", wide)]:
        put("netpbm", name, saved(image, "PPM"))
    put("netpbm", "p3", b"P3\n# text\n2 2\n255\n1 2 3 4 5 6\n7 8 9 10 11 12\n")
    put("netpbm", "p2", b"P2 3 1 7\n1 2 7\n")
    put("netpbm", "p1", b"P1\n3 2\n1 0 1\n010\n")


def tables():
    rows = 40
    text = [None if i % 7 == 3 else f"key {i % 11}" for i in range(rows)]
    columns = {
        "key": pa.array([value or "" for value in text]),
        "label": pa.array(text),
        "n": pa.array([None if i % 5 == 0 else i for i in range(rows)], pa.uint32()),
        "m": pa.array([i * (1 << 57) for i in range(rows)], pa.uint64()),
        "x": pa.array([None if i % 9 == 0 else i / 7 for i in range(rows)], pa.float64()),
    }
    table = pa.table(columns)
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]:
        for version in ["1.0", "2.0"]:
            out = io.BytesIO()
            pq.write_table(table, out, compression=codec, data_page_version=version, use_dictionary=version == "2.0",
                           row_group_size=25, write_statistics=False, store_schema=False)
            put("parquet", f"{codec}_v{version[0]}", out.getvalue())
    for name, encoding in [
        ("delta", {"key": "DELTA_BYTE_ARRAY", "label": "DELTA_LENGTH_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED", "m": "DELTA_BINARY_PACKED"}),
        ("split", {"x": "BYTE_STREAM_SPLIT"}),
    ]:
        out = io.BytesIO()
        pq.write_table(table, out, column_encoding=encoding, use_dictionary=False, compression="none", data_page_size=64,
                       write_page_index=True, store_schema=False)
        put("parquet", name, out.getvalue())
    dim = 4
    for name, kind, text_kind, options in [
        ("f16", np.float16, pa.string(), {}),
        ("f32_zstd", np.float32, pa.large_string(), {"compression": "zstd"}),
        ("f32_lz4", np.float32, pa.string_view(), {"compression": "lz4"}),
        ("dictionary", np.float16, pa.dictionary(pa.int32(), pa.string()), {}),
        ("dictionary_zstd", np.float16, pa.dictionary(pa.int8(), pa.string()), {"compression": "zstd"}),
    ]:
        vectors = RANDOM.normal(size=rows * dim).astype(kind)
        embeddings = pa.table({
            "key": pa.array([f"k{i % 6}" for i in range(rows)]).cast(text_kind),
            "label": pa.array(text).cast(text_kind),
            "index": pa.array(range(rows), pa.uint32()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors), dim),
            "radius": pa.array([None if i % 4 == 0 else i / 50 for i in range(rows)], pa.float64()),
            "other": pa.array([[1, 2]] * rows),
        })
        out = io.BytesIO()
        with pa.ipc.new_file(out, embeddings.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(embeddings, max_chunksize=24)
        put("arrow", name, out.getvalue())
    for name, array in [("f2", np.float16), ("f4", np.float32), ("f8", np.float64)]:
        out = io.BytesIO()
        np.save(out, RANDOM.normal(size=(3, 4)).astype(array))
        put("npy", name, out.getvalue())
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ones((2, 3), np.float32), version=(2, 0))
    put("npy", "version_2", out.getvalue())


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, 3))

    def forward(self, x):
        return x @ self.weight


def weights():
    state = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "a.turned": torch.arange(6.0).reshape(2, 3).T,
        "b.half": torch.ones(3, dtype=torch.float16),
        "b.brain": torch.ones(2, dtype=torch.bfloat16),
        "steps": torch.tensor(7),
    }
    for name, content in [
        ("state", state),
        ("checkpoint", {"epoch": 3, "state_dict": state, "optimizer": {"lr": 1e-3, "betas": (0.9, 0.98), "state": {0: {"step": 1}}}}),
        ("parameters", {"w": torch.nn.Parameter(torch.zeros(2)), "name": "x", "list": [None, True, -1, 2**40]}),
    ]:
        for legacy in [False, True]:
            for protocol in [2, 4]:
                out = io.BytesIO()
                torch.save(content, out, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
                put("weights", f"{name}_{'legacy' if legacy else 'zip'}_{protocol}", out.getvalue())
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(Two()), out)
    put("weights", "script", out.getvalue())
    put("weights", "safetensors", save({name: tensor.contiguous() for name, tensor in state.items()}, {"format": "pt"}))


if __name__ == "__main__":
    pictures()
    tables()
    weights()
    print(sys.version, Image.__version__, np.__version__, pa.__version__, torch.__version__)
