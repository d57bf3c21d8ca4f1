use std::path::{Path, PathBuf};

use trommel_columnar::embeddings::{EmbeddingFile, EmbeddingHead, EmbeddingRow};
use trommel_columnar::pieces::Piece;
use trommel_core::credit::{Credit, CreditConfig};
use trommel_core::sample::TAKEN_DOWN;
use trommel_core::stop::Stop;

use super::*;

/// One file; what its ledger knows: index, and whether it is settled by this reason.
struct One {
    path: PathBuf,
    known: Vec<(u32, Option<&'static str>)>,
}

impl EmbeddingFiles for One {
    fn open(&self, _: u64) -> Result<OpenedEmbeddings, Unread> {
        let piece = Piece::Ipc(self.path.clone());
        let reader = EmbeddingReader::of(&piece).map_err(|error| Unread::of("a", &error, Some(7)))?;
        let known = |&(index, settled): &(u32, Option<&'static str>)| {
            let id = SampleId { ordinal: 9, index };
            let info = SampleInfo { key: format!("known {index}"), id, ..SampleInfo::default() };
            let status = if settled == Some(TAKEN_DOWN) { Status::Dropped } else { Status::Rejected };
            let settled = settled.map(|code| (status, Reason::new(code, "")));
            Ok(KnownSample { info, settled, captioned: index > 0 })
        };
        let samples = || -> Samples { Box::new(self.known.iter().map(known).collect::<Vec<_>>().into_iter()) };
        let known = (!self.known.is_empty()).then(samples);
        Ok(OpenedEmbeddings { name: "a".into(), reader: Some(reader), known, bytes: 5, rows: Some(3) })
    }
}

/// What is sent for a file, a line each.
fn sent(path: &Path, known: &[(u32, Option<&'static str>)]) -> Vec<String> {
    let stop = Stop::new();
    let credit = Credit::new(CreditConfig { budget_bytes: 1 << 20, lanes: 1, quantum_bytes: 1 << 18 }, stop.clone());
    let (mut out, collected) = Outlet::collecting(0, credit, stop);
    let stored = Arc::new(One { path: path.to_path_buf(), known: known.to_vec() });
    let reader = EmbeddingShards::new(stored, RowBytes { vector: 4, record: 10, shard: 20 });
    let lease = Lease { pass: 0, ordinal: 4, lane: 0, train_from: 0, replay: false };
    reader.read(&lease, &mut out).unwrap();
    let line = |row: Row| match row {
        Ok(sample) => {
            let SampleInfo { id, key, .. } = &*sample.info;
            let vector: Vec<f32> = sample.payload.vector.iter().map(|x| x.to_f32()).collect();
            format!("{}:{} {key} {vector:?} {}", id.ordinal, id.index, sample.caption.is_some())
        }
        Err(Event::Fate(fate)) => {
            let reason = fate.reason.as_ref().map(|reason| reason.code.clone()).unwrap_or_default();
            format!("{}:{} {} {reason}", fate.info.id.ordinal, fate.info.id.index, fate.info.key)
        }
        Err(Event::End(end)) => {
            let notices: Vec<String> = end.notices.lines().collect();
            format!("end {} of {}: {:?} {notices:?}", end.count, end.ordinal, end.outcome)
        }
    };
    collected.items().into_iter().map(line).collect()
}

/// Rows of index and vector.
fn write(path: &Path, rows: &[(Option<u32>, [f32; 2])]) {
    let mut file = EmbeddingFile::create(path, &EmbeddingHead { dim: 2, ..EmbeddingHead::default() }).unwrap();
    for (at, (index, vector)) in rows.iter().enumerate() {
        let (key, vector) = (format!("row {at}"), vector.map(f16::from_f32));
        file.push(EmbeddingRow { key: &key, label: None, shard: None, index: *index, vector: &vector, radius: None })
            .unwrap();
    }
    file.commit().unwrap();
}

#[test]
fn rows_are_samples_in_order_and_those_without_a_direction_rejects() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    write(&path, &[(None, [1.0, 0.0]), (None, [0.0, 0.0]), (None, [0.6, 0.8])]);
    let due = [
        "4:0 row 0 [1.0, 0.0] true",
        "4:1 row 1 embedding_zero",
        "4:2 row 2 [0.60009766, 0.7998047] true",
        "end 3 of 4: Complete(None) []",
    ];
    assert_eq!(sent(&path, &[]), due);
    // Further from norm 1 than a rounded unit vector can be: all of the file is normalised.
    write(&path, &[(None, [3.0, 4.0]), (None, [0.0, 1.0])]);
    let sent = sent(&path, &[]);
    assert_eq!(sent[0], "4:0 row 0 [0.60009766, 0.7998047] true");
    assert!(sent[2].contains("files of embeddings whose rows are normalised again: 1 (first: "), "{}", sent[2]);
}

#[test]
fn a_ledger_gives_samples_their_names_and_what_it_rejected_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    write(&path, &[(Some(1), [1.0, 0.0]), (Some(2), [0.0, 1.0])]);
    const NO: Option<&str> = Some("no_image");
    let all = [(0, NO), (1, None), (2, None), (3, NO)];
    let due = [
        "4:0 known 0 no_image",
        "4:1 known 1 [1.0, 0.0] true",
        "4:2 known 2 [0.0, 1.0] true",
        "4:3 known 3 no_image",
        "end 4 of 4: Complete(None) []",
    ];
    assert_eq!(sent(&path, &all), due);
    // What was taken down has an embedding, and is not judged again.
    let down = [(1, Some(TAKEN_DOWN)), (2, None)];
    assert_eq!(sent(&path, &down)[..2], ["4:0 known 1 taken_down", "4:1 known 2 [0.0, 1.0] true"]);
    // Other samples' vectors are not taken for these.
    for wrong in [&[(0, None), (1, None), (2, None)][..], &[(0, NO), (1, None)], &[(0, NO), (1, NO), (3, None)]] {
        let sent = sent(&path, wrong);
        let end = sent.last().unwrap();
        assert!(end.contains("embeddings_mismatch") || end.contains("embeddings_cut_off"), "{end}");
        assert!(end.contains("lost"), "{end}");
    }
    let sent = sent(&path, &[(1, None), (2, None), (3, None)]);
    assert!(sent.last().unwrap().contains("fewer rows than their ledger has samples: 1, 1 samples lost"), "{sent:?}");
}

#[test]
fn what_is_no_such_file_is_lost_and_what_is_not_there_is_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    let end = sent(&path, &[]);
    assert!(end[0].starts_with("end 0 of 4: Unavailable("), "{end:?}");
    std::fs::write(&path, b"no arrow at all").unwrap();
    let end = sent(&path, &[]);
    assert!(end[0].starts_with("end 0 of 4: Rejected(") && end[0].contains("7 samples lost"), "{end:?}");
}
