//! A run folder read by pyarrow, polars and DuckDB, embeddings by pyarrow: `TROMMEL_PEERS` names a Python that has them.

use std::fmt::Write as _;
use std::process::Command;

use super::super::storage::Disk;
use super::*;

#[test]
fn pyarrow_polars_and_duckdb_read_the_same() {
    let Some(python) = crate::skipped::peer("pyarrow, polars, duckdb and numpy") else { return };
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    run(open(dir.path(), &storage).unwrap(), false).1.unwrap();
    let mut rows = Vec::new();
    for row in naive().0 {
        let f = &row.fate;
        let mut line = json!({
            "shard": row.shard, "key": f.info.key, "uid": f.info.uid, "url": f.info.url, "sha256": f.info.sha256,
            "index": f.info.id.index, "offset": f.info.offset, "size": f.info.size, "status": f.status.as_str(),
            "reason": f.reason.as_ref().map(|r| &r.code),
            "detail": f.reason.as_ref().map(|r| &r.detail).filter(|d| !d.is_empty()),
        });
        for (at, name) in parts().benchmarks.iter().enumerate() {
            let score = f.scores.get(at).copied().unwrap_or_default();
            line[format!("max_similarity.{name}")] = json!(score.max_similarity);
            line[format!("nearest.{name}")] = json!(score.nearest);
            line[format!("margin.{name}")] = json!(score.margin);
            line[format!("exceeds.{name}")] = json!(score.exceeds);
            line[format!("hits.{name}")] = json!(score.hits);
        }
        rows.push(line);
    }
    let mut embeddings = serde_json::Map::new();
    for (ordinal, stored) in naive().2 {
        let hex = |e: &StoredEmbedding| {
            e.vector.iter().fold(String::new(), |mut s, v| {
                let _ = write!(s, "{:04x}", v.to_bits());
                s
            })
        };
        let list: Vec<_> = stored.iter().map(|e| json!([e.index, e.key, hex(e)])).collect();
        embeddings.insert(ordinal.to_string(), json!(list));
    }
    let expected = dir.path().join("expected.json");
    let json = json!({ "rows": rows, "embeddings": embeddings, "dim": DIM, "identity": identity() });
    std::fs::write(&expected, json.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/ledger_readback.py");
    let output = Command::new(python).arg(script).arg(dir.path()).arg(expected).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("22 rows equal") && text.contains("DuckDB"), "{text}");
}
