"""Reads a run folder with pyarrow, polars and DuckDB and compares it with what the Rust side says it wrote.

Usage: ledger_readback.py RUN_FOLDER EXPECTED_JSON
"""

import glob
import json
import os
import sys

import duckdb
import numpy
import polars
import pyarrow
import pyarrow.ipc
import pyarrow.parquet


def ordinal(path):
    return int(os.path.basename(path).split(".")[0])


def parts(folder, kind, extension):
    return sorted(glob.glob(os.path.join(folder, kind, "*." + extension)), key=ordinal)


def by_duckdb(path):
    table = duckdb.read_parquet(path)
    columns = table.columns
    return [dict(zip(columns, row)) for row in table.fetchall()]


def same(name, rows, expected):
    assert len(rows) == len(expected), f"{name}: {len(rows)} rows, {len(expected)} expected"
    for at, (row, want) in enumerate(zip(rows, expected)):
        assert set(row) == set(want), f"{name}: columns {sorted(set(row) ^ set(want))}"
        for column, value in want.items():
            assert row[column] == value, f"{name}: row {at}, {column}: {row[column]!r}, {value!r} expected"


def main(folder, expected_path):
    with open(expected_path, encoding="utf-8") as file:
        expected = json.load(file)

    files = parts(folder, "ledger", "parquet")
    by_arrow = [row for path in files for row in pyarrow.parquet.read_table(path).to_pylist()]
    same("pyarrow", by_arrow, expected["rows"])
    by_polars = [row for path in files for row in polars.read_parquet(path).to_dicts()]
    same("polars", by_polars, expected["rows"])
    same("DuckDB", [row for path in files for row in by_duckdb(path)], expected["rows"])
    # All shards as one table, filtered, the way people ask.
    together = polars.scan_parquet(files).filter(polars.col("status") == "kept").collect()
    kept = sum(row["status"] == "kept" for row in expected["rows"])
    largest = max(row["max_similarity.a"] for row in expected["rows"] if row["max_similarity.a"] is not None)
    question = "select count(*) filter (status = 'kept'), max(\"max_similarity.a\"), count(distinct shard) from read_parquet(?)"
    [found] = duckdb.execute(question, [os.path.join(folder, "ledger", "*.parquet")]).fetchall()
    assert together.height == kept and found == (kept, largest, len({row["shard"] for row in expected["rows"]})), found
    schema = pyarrow.parquet.read_schema(files[0])
    types = {name: str(schema.field(name).type) for name in ("index", "offset", "max_similarity.a", "nearest.a", "key")}
    assert types == {
        "index": "uint32", "offset": "uint64", "max_similarity.a": "double", "nearest.a": "uint32", "key": "string",
    }, types
    assert pyarrow.parquet.read_metadata(files[0]).metadata[b"trommel.rule"] == b"drop-above:0.9"

    items = [row for path in parts(folder, "items", "parquet") for row in pyarrow.parquet.read_table(path).to_pylist()]
    assert items == [row for path in parts(folder, "items", "parquet") for row in polars.read_parquet(path).to_dicts()]
    assert items == [row for path in parts(folder, "items", "parquet") for row in by_duckdb(path)]
    assert {row["benchmark"] for row in items} == {"a", "b.c"}

    for path in parts(folder, "embeddings", "arrow"):
        want = expected["embeddings"][str(ordinal(path))]
        with pyarrow.OSFile(path) as file:
            table = pyarrow.ipc.open_file(file).read_all()
        table.validate(full=True)
        assert table.schema.field("embedding").type == pyarrow.list_(
            pyarrow.field("item", pyarrow.float16(), nullable=False), expected["dim"]
        ), table.schema
        assert json.loads(table.schema.metadata[b"trommel.identity"]) == expected["identity"]
        column = table.column("embedding").combine_chunks()
        vectors = numpy.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype="<f2").view("<u2")
        rows = vectors.reshape(len(table), expected["dim"])
        seen = [
            [index, key, "".join(f"{v:04x}" for v in row)]
            for index, key, row in zip(table.column("index").to_pylist(), table.column("key").to_pylist(), rows)
        ]
        assert seen == want, f"{path}: {seen} {want}"

    by = f"pyarrow {pyarrow.__version__}, polars {polars.__version__} and DuckDB {duckdb.__version__}"
    print(f"{len(by_arrow)} rows equal in {by}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
