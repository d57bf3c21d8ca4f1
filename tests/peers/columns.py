"""Tables and embeddings files as pyarrow and polars write them: all codecs, encodings, page kinds and kinds of text.

Usage: columns.py OUT. Each line of OUT/index.tsv is a file and what it holds: the number of rows of the one table, from its
first row on (OUT/table.json: columns text, u32, u64, the bits of f64), `bad WORD` for what must be refused with that word,
and `million`. Each file is read back by its writer first. OUT/arrow.tsv is the same for Arrow IPC (OUT/vectors.npy, f4).
"""
import base64, decimal, json, pathlib, struct, sys, warnings
import numpy as np
import polars as pl, pyarrow as pa, pyarrow.compute as pc, pyarrow.feather as feather, pyarrow.parquet as pq

warnings.simplefilter("ignore")
out, index, arrows = pathlib.Path(sys.argv[1]), [], []
rng, rows = np.random.default_rng(3), 3000
text = [None if i % 11 == 3 else "" if i % 17 == 5 else f"käse/{i % 700:05d}" + "x" * (i % 5) for i in range(rows)]
u32 = [None if i % 7 == 1 else int(v) for i, v in enumerate(rng.integers(0, 2**32, rows, dtype="u8"))]
u64 = [None if i % 5 == 2 else int(v) for i, v in enumerate(rng.integers(0, 2**64, rows, dtype="u8"))]
f64 = [None if i % 13 == 4 else float(v) for i, v in enumerate(rng.standard_normal(rows))]
f64[0], f64[1], f64[2] = float("inf"), -0.0, 5e-324
bits = [None if v is None else struct.unpack("<Q", struct.pack("<d", v))[0] for v in f64]
(out / "table.json").write_text(json.dumps([text, u32, u64, bits]))
wanted = pa.table({"text": pa.array(text), "u32": pa.array(u32, pa.uint32()), "u64": pa.array(u64, pa.uint64()), "f64": pa.array(f64)})
some = lambda n, *values: [values[i % len(values)] for i in range(n)]
beside = {
    "half": pa.array(np.ones(rows, "f2")), "nothing": pa.nulls(rows), "view": pa.array(some(rows, "a", None, "long enough to lie outside"), pa.string_view()),
    "price": pa.array(some(rows, decimal.Decimal("1.25"), None), pa.decimal128(10, 2)), "big": pa.array(some(rows, decimal.Decimal(7)), pa.decimal256(60, 0)),
    "map": pa.array(some(rows, [("a", 1)], None, []), pa.map_(pa.string(), pa.int32())), "faces": pa.array(some(rows, [{"x": 1.5, "t": ["a"]}], [], None)),
    "boxes": pa.array(some(rows, [[1, 2], []], None), pa.list_(pa.list_(pa.int16()))), "fixed": pa.array(some(rows, [1.0, 2.0], None), pa.list_(pa.float32(), 2)),
    "when": pa.array(range(rows), pa.timestamp("ns", "UTC")), "day": pa.array(range(rows), pa.date32()), "span": pa.array(range(rows), pa.duration("us")),
    "raw": pa.array(some(rows, b"\xff\0", None)), "id": pa.array([bytes(16)] * rows, pa.uuid()), "ok": pa.array(some(rows, True, None, False)), "kind": pa.array(some(rows, "a", None, "b")).dictionary_encode(),
}
wide = pa.table({**{n: beside[n] for n in list(beside)[:8]}, **{n: wanted[n] for n in ("u64", "text", "f64", "u32")}, **{n: beside[n] for n in list(beside)[8:]}})


def note(name, holds=rows):
    index.append(f"{name}\t{holds}\n")


def arrow(name, table=wanted, holds=None, **options):
    pq.write_table(table, out / name, **options)
    back = pq.read_table(out / name, columns=wanted.column_names)
    for column in wanted.column_names:
        assert back[column].to_pylist() == table[column].to_pylist(), (name, column)
    note(name, table.num_rows if holds is None else holds)


codecs = ("none", "snappy", "gzip", "brotli", "lz4", "zstd")
for codec in codecs:
    for version in ("1.0", "2.0"):
        arrow(f"pa_{codec}_{version}.parquet", compression=codec, data_page_version=version)
        arrow(f"pa_plain_{codec}_{version}.parquet", compression=codec, data_page_version=version, use_dictionary=False)
        for encoding in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"):
            encodings = {"text": encoding, "u32": "DELTA_BINARY_PACKED", "u64": "BYTE_STREAM_SPLIT", "f64": "BYTE_STREAM_SPLIT"}
            arrow(f"pa_{encoding}_{codec}_{version}.parquet", compression=codec, data_page_version=version, use_dictionary=False, column_encoding=encodings)
    pl.from_arrow(wanted).write_parquet(out / f"pl_{codec}.parquet", compression="uncompressed" if codec == "none" else codec, statistics="full")
    note(f"pl_{codec}.parquet")
for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string())):
    column = wanted["text"].combine_chunks()
    if pa.types.is_dictionary(kind):
        column = pc.if_else(pa.array(np.arange(rows) < 90), column, None).dictionary_encode().cast(kind)
        few = wanted.set_column(0, "text", column).slice(0, 90)
        arrow(f"pa_text_{index.__len__()}.parquet", few, row_group_size=40)
    else:
        arrow(f"pa_text_{kind}.parquet", wanted.set_column(0, "text", column.cast(kind)))
arrow("pa_wide.parquet", wide)
arrow("pa_wide_zstd2.parquet", wide, compression="zstd", data_page_version="2.0", use_dictionary=False)
arrow("pa_no_arrow_schema.parquet", wide, store_schema=False)
arrow("pa_int96.parquet", wide, use_deprecated_int96_timestamps=True)
arrow("pa_groups.parquet", wanted, row_group_size=7)
arrow("pa_pages.parquet", wanted, data_page_size=64, dictionary_pagesize_limit=256, write_batch_size=16)
arrow("pa_index.parquet", wanted, write_page_index=True, write_page_checksum=True, data_page_size=900)
arrow("pa_checksum2.parquet", wanted, write_page_checksum=True, data_page_version="2.0", compression="gzip")
arrow("pa_old.parquet", wanted, version="2.4", flavor="spark")
required = pa.table(wanted.drop_null().columns, pa.schema([pa.field(f.name, f.type, False) for f in wanted.schema]))
pq.write_table(required, out / "pa_required.parquet", compression="brotli")
note("pa_required.parquet", "full")
arrow("pa_no_rows.parquet", wanted.slice(0, 0))
pq.ParquetWriter(out / "pa_no_groups.parquet", wanted.schema).close()
note("pa_no_groups.parquet", 0)
with pq.ParquetWriter(out / "pa_empty_groups.parquet", wanted.schema) as writer:
    for part in (wanted.slice(0, 0), wanted.slice(0, 10), wanted.slice(10, 0), wanted.slice(10, 20), wanted.slice(0, 0)):
        writer.write_table(part)
note("pa_empty_groups.parquet", 30)
frame = pl.from_arrow(wanted)
frame.with_columns(pl.lit(None).alias("none"), pl.lit([[1]]).alias("lists"), pl.col("text").cast(pl.Categorical).alias("cat")).write_parquet(out / "pl_wide.parquet", row_group_size=999, data_page_size=512)
note("pl_wide.parquet")
frame.with_columns(pl.col("text").cast(pl.Categorical)).write_parquet(out / "pl_categorical.parquet", compression="lz4")
note("pl_categorical.parquet")
million = pa.table({"text": [f"img{i:07d}" for i in range(1_000_000)]})
pq.write_table(million, out / "pa_million.parquet", row_group_size=1_000_000, compression="zstd")
pl.from_arrow(million).write_parquet(out / "pl_million.parquet", row_group_size=1_000_000)
note("pa_million.parquet", "million")
note("pl_million.parquet", "million")
for kind, column, word in (("binary", pa.array(some(rows, b"a")), "BYTE_ARRAY"), ("number", pa.array(range(rows)), "INT64"), ("list", pa.array(some(rows, ["a"])), "group"), ("struct", pa.array(some(rows, {"a": "b"})), "group"), ("latin", None, "UTF-8")):
    bad = pa.table(wanted.columns, wanted.column_names)
    if kind == "latin":
        raw = pa.array([b"a", b"\xff"] * (rows // 2))
        column = pa.StringArray.from_buffers(rows, *raw.buffers()[1:])
    pq.write_table(bad.set_column(0, "text", column), out / f"bad_{kind}.parquet")
    note(f"bad_{kind}.parquet", f"bad {word}")
pq.write_table(wanted.append_column("text", wanted["text"]), out / "bad_twice.parquet")
note("bad_twice.parquet", "bad twice")
pq.write_table(wanted.drop_columns("text"), out / "bad_missing.parquet")
note("bad_missing.parquet", "bad missing")
# A page of 40 MB whose header says 1,000 bytes, in a number as long as the one that was there.
for codec in ("gzip", "brotli", "zstd", "lz4", "snappy"):
    for version in ("1.0", "2.0"):
        name = f"bad_size_{codec}_{version}.parquet"
        large = pa.table({"text": ["x" * 1000] * 40_000, **{f.name: pa.nulls(40_000, f.type) for f in wanted.schema if f.name != "text"}})
        pq.write_table(large, out / name, compression=codec, use_dictionary=False, data_page_version=version, data_page_size=1 << 30, column_encoding="PLAIN", write_batch_size=50_000)
        chunk = pq.read_metadata(out / name).row_group(0).column(0)
        data, at = bytearray((out / name).read_bytes()), chunk.data_page_offset + 3
        end = next(i for i in range(at, at + 5) if data[i] < 128)
        size = [2000 & 127, 2000 >> 7] + [0] * (end - at - 1)
        data[at : end + 1] = bytes(b | 128 for b in size[:-1]) + bytes(size[-1:])
        (out / name).write_bytes(data)
        # Codecs that know their own size are held to the header's by the crate behind.
        note(name, "bad header says" if codec in ("gzip", "brotli") else "bad arquet")
try:
    import pyarrow.parquet.encryption as pe

    class Keys(pe.KmsClient):
        def __init__(self, _config):
            super().__init__()

        def wrap_key(self, key, _name):
            return base64.b64encode(key)

        def unwrap_key(self, wrapped, _name):
            return base64.b64decode(wrapped)

    for name, plain in (("bad_encrypted", False), ("bad_encrypted_column", True)):
        config = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=plain)
        properties = pe.CryptoFactory(Keys).file_encryption_properties(pe.KmsConnectionConfig(), config)
        with pq.ParquetWriter(out / f"{name}.parquet", wanted.schema, encryption_properties=properties) as writer:
            writer.write_table(wanted)
        note(f"{name}.parquet", "bad ncrypt")
except ImportError:
    print("pyarrow without encryption")
(out / "index.tsv").write_text("".join(index))

# Embeddings as Arrow IPC. Keys as above, without nulls.
n, dim = 5000, 6
vectors = rng.standard_normal((n, dim)).astype("f4")
np.save(out / "vectors.npy", vectors)
keys = [f"k{i}" for i in range(n)]
labels = [None if i % 3 == 0 else f"label {i % 50}" for i in range(n)]
flat = pa.array(vectors.reshape(-1))
columns = lambda kind, flat=flat: {"key": pa.array(keys, kind), "embedding": pa.FixedSizeListArray.from_arrays(flat, dim), "label": pa.array(labels, kind)}


def ipc(name, table, holds=n, options=None, chunk=None):
    with pa.ipc.new_file(out / name, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=chunk)
    assert pa.ipc.open_file(out / name).read_all().num_rows == table.num_rows
    arrows.append(f"{name}\t{holds}\n")


for kind in (pa.string(), pa.large_string(), pa.string_view()):
    table = pa.table(columns(kind))
    for codec in (None, "lz4", "zstd"):
        ipc(f"pa_{kind}_{codec}.arrow", table, options=pa.ipc.IpcWriteOptions(compression=codec), chunk=None if codec else 700)
coded = pa.table({**columns(pa.string()), "label": pa.array(labels).dictionary_encode(), "key": pa.array(keys).dictionary_encode()})
ipc("pa_dictionary.arrow", coded)
ipc("pa_dictionary_zstd.arrow", coded, options=pa.ipc.IpcWriteOptions(compression="zstd"))
other = {k: pa.chunked_array([v, v]).slice(0, n).combine_chunks() for k, v in beside.items() if k not in ("kind", "id", "big")}
ipc("pa_wide.arrow", pa.table({**other, "kind": pa.array(some(n, "q", "r")).dictionary_encode(), **columns(pa.string_view()), "views": pa.array(some(n, [1], None), pa.list_view(pa.int8()))}))
ipc("pa_wide_lz4.arrow", pa.table({**columns(pa.string()), **other}), options=pa.ipc.IpcWriteOptions(compression="lz4"), chunk=999)
ipc("pa_no_rows.arrow", pa.table(columns(pa.string())).slice(0, 0), 0)
feather.write_feather(pa.table(columns(pa.string())), str(out / "feather.arrow"))
arrows.append(f"feather.arrow\t{n}\n")
frame = pl.DataFrame({"key": keys, "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, dim)), "label": labels, "tags": [["a"]] * n})
for codec in ("uncompressed", "lz4", "zstd"):
    frame.write_ipc(out / f"pl_{codec}.arrow", compression=codec)
    assert pl.read_ipc(out / f"pl_{codec}.arrow").equals(frame)
    arrows.append(f"pl_{codec}.arrow\t{n}\n")
frame.with_columns(pl.col("label").cast(pl.Categorical)).write_ipc(out / "pl_categorical.arrow", compression="zstd")
arrows.append(f"pl_categorical.arrow\t{n}\n")
lists = {**columns(pa.string()), "embedding": pa.array(list(vectors))}
ipc("bad_lists.arrow", pa.table(lists), "bad fixed-size")
ipc("bad_f64.arrow", pa.table(columns(pa.string(), flat.cast(pa.float64()))), "bad f16 or f32")
ipc("bad_key.arrow", pa.table({**columns(pa.string()), "key": pa.array(range(n))}), "bad text is due")
(out / "arrow.tsv").write_text("".join(arrows))
print(f"{len(index)} Parquet and {len(arrows)} Arrow files by pyarrow {pa.__version__} and polars {pl.__version__}")
