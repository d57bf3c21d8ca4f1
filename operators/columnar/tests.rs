#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use half::f16;

use super::ColumnarError;
use super::canonical::{canonicalise_into, round_to_f16};
use super::embeddings::{EmbeddingHead, EmbeddingRow, EmbeddingSet, EmbeddingWriter};
use super::ipc::{IpcWriter, META_SCHEMA};
use super::npy;
use super::parquet::{Column, ColumnType, Field, TableReader, TableWriter};
use super::pieces::FILE_NAME;
use super::source::{About, EmbeddingReader};
use trommel_core::causes::Causes;
use trommel_core::sample::Identity;

fn unit(seed: u32, dim: usize) -> Vec<f16> {
    let mut out = Vec::new();
    let raw: Vec<f32> = (0..dim as u32).map(|i| ((seed * 31 + i * 17) % 101) as f32 - 50.0).collect();
    canonicalise_into(&raw, &mut out).unwrap();
    out
}

fn identity() -> Identity {
    Identity {
        architecture: "ViT-B-32".into(),
        weights: "seed:0".into(),
        preprocessing: "224".into(),
        decoder: "zune".into(),
    }
}

fn set(rows: u32, dim: usize, radii: bool) -> EmbeddingSet {
    EmbeddingSet {
        dim,
        vectors: (0..rows).flat_map(|r| unit(r + 1, dim)).collect(),
        keys: (0..rows).map(|r| format!("k{r}")).collect(),
        labels: (0..rows).map(|r| (r % 2 == 0).then(|| format!("class {}", r % 3))).collect(),
        shards: (0..rows).map(|r| (r % 5 != 0).then(|| "s.tar".into())).collect(),
        indices: (0..rows).map(|r| (r % 5 != 0).then_some(r)).collect(),
        radii: radii.then(|| (0..rows).map(|r| f64::from(r) / 7.0).collect()),
        identity: Some(identity()),
        ..EmbeddingSet::default()
    }
}

fn assert_same(a: &EmbeddingSet, b: &EmbeddingSet) {
    let bits = |s: &EmbeddingSet| s.vectors.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(a), bits(b));
    assert_eq!((a.dim, &a.keys, &a.labels), (b.dim, &b.keys, &b.labels));
    assert_eq!((&a.shards, &a.indices, &a.radii, &a.identity), (&b.shards, &b.indices, &b.radii, &b.identity));
}

#[test]
fn a_benchmark_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for (rows, dim, radii) in [(0, 3, false), (1, 1, true), (9000, 5, false), (4096, 2, true), (7, 640, true)] {
        let folder = dir.path().join(format!("{rows}-{dim}"));
        let written = set(rows, dim, radii);
        let metadata = BTreeMap::from([("trommel.rule".to_string(), "none".to_string())]);
        assert_eq!(written.write(&folder, metadata).unwrap(), u64::from(rows));
        for path in [folder.clone(), folder.join(FILE_NAME)] {
            let read = EmbeddingSet::open(&path).unwrap();
            assert_same(&read, &written);
            assert_eq!(read.notes, super::source::Notes::default());
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left aside");
    }
}

#[test]
fn embeddings_of_a_later_schema_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (version, reads) in [("1", true), ("2", false), ("one", false)] {
        let path = dir.path().join(FILE_NAME);
        let metadata = BTreeMap::from([(META_SCHEMA.to_owned(), version.to_owned())]);
        IpcWriter::new(&path, std::fs::File::create(&path).unwrap(), 3, false, &metadata).unwrap().finish().unwrap();
        let read = EmbeddingSet::open(&path);
        assert_eq!(read.is_ok(), reads, "{version}");
        let said = read.err().map_or(String::new(), |error| Causes(&error).to_string());
        assert!(reads || said.contains(&format!("schema version {version}; this program reads up to 1")), "{said}");
    }
}

#[test]
fn no_cut_and_no_flipped_byte_is_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    set(20, 4, true).write(dir.path(), BTreeMap::new()).unwrap();
    let path = dir.path().join(FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = EmbeddingSet::open(&path).err().unwrap_or_else(|| panic!("cut at {cut} was read"));
        assert!(error.to_string().contains(FILE_NAME), "{error}");
    }
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bad = whole.clone();
            bad[at] ^= flip;
            std::fs::write(&path, &bad).unwrap();
            // The file has no checksums: what is flipped may be a vector, or a number of rows.
            let _may_be_read = EmbeddingSet::open(&path);
        }
    }
}

#[test]
fn a_cut_table_is_an_error() {
    let fields = vec![Field::required("image_path", ColumnType::Text), Field::nullable("n", ColumnType::U64)];
    let path = Path::new("t.parquet");
    let mut table = TableWriter::new(path, Vec::new(), fields, vec![("a".into(), "b".into())]).unwrap();
    table
        .write(&[
            Column::Text((0..9).map(|n| Some(format!("key {n}"))).collect()),
            Column::U64((0..9).map(|n| (n % 2 == 0).then_some(n)).collect()),
        ])
        .unwrap();
    let whole = table.finish().unwrap();
    let read = |bytes: Vec<u8>| -> Result<Vec<Vec<Column>>, ColumnarError> {
        TableReader::open(
            path,
            Box::new(Cursor::new(bytes)),
            &[("n", ColumnType::U64), ("image_path", ColumnType::Text)],
        )?
        .collect()
    };
    let groups = read(whole.clone()).unwrap();
    assert_eq!(groups[0][0], Column::U64((0..9).map(|n| (n % 2 == 0).then_some(n)).collect()));
    assert!(groups[0][1] == Column::Text((0..9).map(|n| Some(format!("key {n}"))).collect()));
    for cut in 0..whole.len() {
        assert!(read(whole[..cut].to_vec()).is_err(), "cut at {cut}");
    }
    let missing =
        TableReader::open(path, Box::new(Cursor::new(whole.clone())), &[("x", ColumnType::U64)]).err().unwrap();
    assert_eq!(missing.to_string(), "t.parquet: column `x`: is missing; the file has image_path, n");
    let other = TableReader::open(path, Box::new(Cursor::new(whole)), &[("n", ColumnType::Text)]).err().unwrap();
    assert!(matches!(other, ColumnarError::Column { .. }), "{other}");
}

/// The sizes that a file names: of a page, of a block, of a compressed buffer.
#[test]
fn sizes_are_checked_before_memory_is_taken() {
    let path = Path::new("t.parquet");
    let mut table =
        TableWriter::new(path, Vec::new(), vec![Field::required("a", ColumnType::U32)], Vec::new()).unwrap();
    table.write(&[Column::U32((0..99).map(Some).collect())]).unwrap();
    let mut bytes = table.finish().unwrap();
    // The first page's header: a data page, and its bytes when decompressed.
    assert_eq!(bytes[4..7], [0x15, 0x00, 0x15]);
    bytes[7..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let table = TableReader::open(path, Box::new(Cursor::new(bytes)), &[("a", ColumnType::U32)]).unwrap();
    let error = Causes(&table.last().unwrap().unwrap_err()).to_string();
    assert!(error.contains("a page of 2147483647 bytes, above the limit of 268435456"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    set(20, 4, false).write(dir.path(), BTreeMap::new()).unwrap();
    let path = dir.path().join(FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    // The block of the one record batch, as it stands in the footer: its offset, its head's and its body's length.
    let end = whole.len() - 10;
    let footer = end - u32::from_le_bytes(whole[end..end + 4].try_into().unwrap()) as usize;
    let block = *arrow_ipc::root_as_footer(&whole[footer..end]).unwrap().recordBatches().unwrap().get(0);
    let at = footer + whole[footer..end].windows(24).position(|seen| *seen == block.0).unwrap();
    let mut bad = whole.clone();
    bad[at + 16..at + 24].copy_from_slice(&(1i64 << 40).to_le_bytes());
    std::fs::write(&path, bad).unwrap();
    let error = Causes(&EmbeddingSet::open(&path).err().unwrap()).to_string();
    assert!(error.contains("a record batch outside of the file's"), "{error}");
}

#[test]
fn a_table_refuses_what_does_not_fit() {
    let path = Path::new("t.parquet");
    let fields = vec![Field::required("a", ColumnType::U32), Field::nullable("b", ColumnType::F64)];
    let mut table = TableWriter::new(path, Vec::new(), fields, Vec::new()).unwrap();
    assert!(table.write(&[Column::U32(vec![None]), Column::F64(vec![None])]).is_err(), "a null in a required column");
    assert!(table.write(&[Column::U32(vec![Some(1)]), Column::F64(vec![])]).is_err(), "another length");
    assert!(table.write(&[Column::U64(vec![Some(1)]), Column::F64(vec![None])]).is_err(), "another type");
    assert!(table.write(&[Column::U32(vec![Some(1)])]).is_err(), "a column too few");
    table.write(&[Column::U32(vec![Some(1)]), Column::F64(vec![None])]).unwrap();
}

/// `numpy.save(f, numpy.array([[0.6, 0.8], [-1, 0]], "<f2"))`, numpy 2.x, from its header to its last element.
fn numpy_golden() -> Vec<u8> {
    let mut golden = b"\x93NUMPY\x01\x00v\x00{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }".to_vec();
    golden.resize(127, b' ');
    golden.push(b'\n');
    golden.extend_from_slice(&[0xcd, 0x38, 0x66, 0x3a, 0x00, 0xbc, 0x00, 0x00]);
    golden
}

#[test]
fn npy_is_numpys() {
    let values = [round_to_f16(0.6), round_to_f16(0.8), f16::NEG_ONE, f16::ZERO];
    let mut bytes = Vec::new();
    npy::write(Path::new("x.npy"), &mut bytes, &values, 2).unwrap();
    assert_eq!(bytes, numpy_golden());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    std::fs::write(&path, &bytes).unwrap();
    let read = EmbeddingSet::open(&path).unwrap();
    assert_eq!(
        (read.vectors.as_slice(), read.dim, read.keys.as_slice()),
        (&values[..], 2, &["0".into(), "1".into()][..])
    );
    for cut in 0..bytes.len() {
        assert!(npy::read_head(&path, &mut &bytes[..cut], cut as u64).is_err(), "cut at {cut}");
    }
    let swap = |from: &str, to: &str| {
        let text = bytes.iter().map(|&b| char::from(b)).collect::<String>().replacen(from, to, 1);
        let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
        npy::read_head(&path, &mut bytes.as_slice(), bytes.len() as u64)
    };
    for (from, to, says) in [
        ("<f2", "<f8", "needs a file of"),
        ("<f2", "<i2", "element type"),
        ("<f2", ">f2", "element type"),
        ("False", "True ", "Fortran"),
        ("(2, 2)", "(4,)  ", "shape"),
        ("(2, 2)", "(2, 3)", "needs a file of"),
        ("(2, 2)", "(0, 0)", "rows of 0"),
        ("(2, 2)", "(-1,2)", "whole numbers"),
        ("NUMPY\u{1}", "NUMPY\u{9}", "version"),
    ] {
        let error = swap(from, to).err().unwrap().to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
    // What stands in place of uids is shown whole, and nothing behind it.
    for (descr, shown) in
        [("'<U32'", "elements '<U32'; "), ("[('a', '<u4'), ('b', '<u8')]", "elements [('a', '<u4'), ('b', '<u8')]; ")]
    {
        let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n");
        let bytes = [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
        let error = npy::read_pair_head(&path, &mut bytes.as_slice(), bytes.len() as u64).err().unwrap().to_string();
        assert!(error.contains(shown), "{error}");
    }
    let head = npy::read_head(&path, &mut npy::head_bytes(1 << 50, 1 << 12).as_slice(), 128).err().unwrap();
    assert!(head.to_string().contains("needs a file of"), "{head}");
}

/// A disk that fails says nothing of the bytes: who reads may come again.
#[test]
fn a_disk_that_fails_is_no_malformed_file() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("the disk is on fire")) } else { self.0.read(buffer) }
        }
    }
    let (path, bytes) = (Path::new("x.npy"), numpy_golden());
    for at in 0..128 {
        let error = npy::read_head(path, &mut Failing(&bytes[..at]), bytes.len() as u64).err().unwrap();
        assert!(error.io_cause().is_some(), "{at}: {error}");
        assert_eq!(Causes(&error).to_string(), "x.npy: the disk is on fire");
    }
}

/// Wherever the disk is full: at the head, in a group, at the end.
#[test]
fn a_full_disk_is_no_malformed_table() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let some = bytes.len().min(self.0);
            self.0 -= some;
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let path = Path::new("s.parquet");
    let write = |room: usize| -> Result<(), ColumnarError> {
        let fields = vec![Field::required("index", ColumnType::U32)];
        let mut table = TableWriter::new(path, Full(room), fields, Vec::new())?;
        table.write(&[Column::U32((0..100).map(Some).collect())])?;
        table.finish().map(drop)
    };
    let whole = (0..10_000).find(|room| write(*room).is_ok()).unwrap();
    assert!(whole > 100, "{whole}");
    for room in 0..whole {
        let error = write(room).unwrap_err();
        assert_eq!(error.io_cause().map(io::Error::kind), Some(io::ErrorKind::StorageFull), "{room}: {error}");
    }
}

fn tree(dir: &Path, names: &[&str], keys: bool) {
    std::fs::create_dir_all(dir.join("img_emb")).unwrap();
    std::fs::create_dir_all(dir.join("metadata")).unwrap();
    for (at, name) in names.iter().enumerate() {
        let vectors: Vec<f16> = (0..3u32).flat_map(|r| unit(at as u32 * 3 + r + 1, 4)).collect();
        let path = dir.join(format!("img_emb/img_emb_{name}.npy"));
        npy::write(&path, &mut std::fs::File::create(&path).unwrap(), &vectors, 4).unwrap();
        if keys {
            let path = dir.join(format!("metadata/metadata_{name}.parquet"));
            let fields =
                vec![Field::nullable("caption", ColumnType::Text), Field::nullable("image_path", ColumnType::Text)];
            let file = std::fs::File::create(&path).unwrap();
            let mut table = TableWriter::new(&path, file, fields, Vec::new()).unwrap();
            for row in 0..3 {
                let key = Some(format!("{name}/{row}"));
                table.write(&[Column::Text(vec![None]), Column::Text(vec![key])]).unwrap();
            }
            table.finish().unwrap();
        }
    }
}

#[test]
fn clip_retrieval_trees() {
    let dir = tempfile::tempdir().unwrap();
    let unpadded = dir.path().join("unpadded");
    tree(&unpadded, &["0", "1", "2", "10", "11"], true);
    let keys = EmbeddingSet::open(&unpadded).unwrap().keys;
    let expected: Vec<String> =
        ["0", "1", "2", "10", "11"].iter().flat_map(|n| (0..3).map(move |r| format!("{n}/{r}"))).collect();
    assert_eq!(keys, expected, "by number where lengths differ");
    assert_eq!(EmbeddingSet::open(&unpadded.join("img_emb")).unwrap().keys, expected);
    assert_eq!(
        EmbeddingSet::open(&unpadded.join("img_emb/img_emb_10.npy")).unwrap().keys,
        expected[9..12],
        "by its name"
    );
    // One file that strayed in does not decide what the others are.
    let (stray, among) = (unpadded.join("mean.npy"), unpadded.join("img_emb/mean.npy"));
    std::fs::copy(unpadded.join("img_emb/img_emb_0.npy"), &stray).unwrap();
    assert_eq!(EmbeddingSet::open(&unpadded).unwrap().keys, expected, "img_emb/ is what is meant");
    // One file for all would hide them, but where a run has exported both.
    let one = unpadded.join(FILE_NAME);
    std::fs::write(&one, b"").unwrap();
    let error = crate::pieces::pieces(&unpadded).unwrap_err().to_string();
    assert!(error.contains("1 embeddings.arrow and 6 other files of embeddings (first: mean.npy)"), "{error}");
    std::fs::create_dir(unpadded.join("embeddings")).unwrap();
    std::fs::write(unpadded.join("embeddings/0.0.arrow"), b"").unwrap();
    assert_eq!(crate::pieces::pieces(&unpadded).unwrap(), [crate::pieces::Piece::Ipc(one.clone())]);
    std::fs::remove_dir_all(unpadded.join("embeddings")).unwrap();
    std::fs::remove_file(&one).unwrap();
    std::fs::rename(&stray, &among).unwrap();
    let error = EmbeddingSet::open(&unpadded.join("img_emb")).err().unwrap().to_string();
    assert!(error.contains("5 img_emb files and 1 other .npy files (first: mean.npy)"), "{error}");
    std::fs::rename(&among, unpadded.join("img_emb/x.arrow")).unwrap();
    let error = EmbeddingSet::open(&unpadded.join("img_emb")).err().unwrap().to_string();
    assert!(error.contains("5 .npy files and 1 .arrow files (first: x.arrow)"), "{error}");
    std::fs::remove_file(unpadded.join("img_emb/x.arrow")).unwrap();
    let padded = dir.path().join("padded");
    tree(&padded, &["00", "01", "10"], false);
    let set = EmbeddingSet::open(&padded).unwrap();
    assert_eq!((set.len(), set.keys[8].as_str(), set.identity), (9, "8", None));

    // Keys that are numbers are read, and it is said that zeros before them are gone.
    assert!(EmbeddingSet::open(&unpadded).unwrap().notes.remarks.is_empty());
    let path = unpadded.join("metadata/metadata_2.parquet");
    let text = std::fs::read(&path).unwrap();
    let (file, fields) = (std::fs::File::create(&path).unwrap(), vec![Field::required("image_path", ColumnType::U64)]);
    let mut table = TableWriter::new(&path, file, fields, Vec::new()).unwrap();
    table.write(&[Column::U64((7..10).map(Some).collect())]).unwrap();
    table.finish().unwrap();
    let set = EmbeddingSet::open(&unpadded).unwrap();
    assert_eq!(set.keys[6..9], ["7", "8", "9"]);
    let [remark] = &set.notes.remarks[..] else { panic!("{:?}", set.notes.remarks) };
    assert!(remark.about == About::NumericKeys && remark.place.ends_with("img_emb_2.npy: column image_path"));
    std::fs::write(&path, text).unwrap();

    // What lies there and is no table of these is nobody's; one whose vectors are gone is missed.
    let alone = |path: &Path| crate::pieces::tables_alone(path).unwrap();
    std::fs::copy(unpadded.join("metadata/metadata_10.parquet"), unpadded.join("metadata/all.parquet")).unwrap();
    assert!(alone(&unpadded).is_empty() && alone(&padded).is_empty());
    std::fs::rename(unpadded.join("img_emb/img_emb_1.npy"), unpadded.join("aside")).unwrap();
    let gone = [(unpadded.join("metadata/metadata_1.parquet"), Some(3))];
    assert_eq!((alone(&unpadded), alone(&unpadded.join("img_emb"))), (gone.to_vec(), gone.to_vec()));
    std::fs::write(&gone[0].0, "no table").unwrap();
    assert_eq!(alone(&unpadded), [(gone[0].0.clone(), None)]);
    std::fs::copy(unpadded.join("metadata/metadata_10.parquet"), &gone[0].0).unwrap();
    std::fs::rename(unpadded.join("aside"), unpadded.join("img_emb/img_emb_1.npy")).unwrap();

    let metadata = unpadded.join("metadata/metadata_10.parquet");
    let aside = unpadded.join("aside");
    std::fs::rename(&metadata, &aside).unwrap();
    let error = EmbeddingSet::open(&unpadded).err().unwrap().to_string();
    assert!(error.contains("img_emb_10.npy: no metadata beside it, though 4 of 5 files have theirs"), "{error}");
    std::fs::rename(&aside, &metadata).unwrap();
    let path = unpadded.join("img_emb/img_emb_2.npy");
    npy::write(&path, &mut std::fs::File::create(&path).unwrap(), &unit(3, 4), 4).unwrap();
    let error = EmbeddingSet::open(&unpadded).err().unwrap();
    assert!(error.to_string().contains("3 rows beside 1 vectors"), "{error}");
    npy::write(&path, &mut std::fs::File::create(&path).unwrap(), &unit(3, 3).repeat(3), 3).unwrap();
    let error = EmbeddingSet::open(&unpadded).err().unwrap();
    assert!(error.to_string().contains("dimension 3; the first file has 4"), "{error}");
    assert!(matches!(EmbeddingSet::open(dir.path()).err().unwrap(), ColumnarError::NoEmbeddings { .. }));
    assert!(matches!(EmbeddingSet::open(&dir.path().join("nothing")).err().unwrap(), ColumnarError::Io { .. }));
}

#[test]
fn rows_are_made_canonical() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let save = |values: &[f64]| {
        let values: Vec<f16> = values.iter().map(|&v| round_to_f16(v)).collect();
        npy::write(&path, &mut std::fs::File::create(&path).unwrap(), &values, 2).unwrap();
    };
    // Within the tolerance: as they are, to the bit.
    save(&[0.6, 0.8, 1.0005, 0.0]);
    let set = EmbeddingSet::open(&path).unwrap();
    assert_eq!(set.vector(1)[0], round_to_f16(1.0005));
    assert_eq!(set.notes.renormalised_rows, 0);
    // One row outside: all of the file anew.
    save(&[0.6, 0.8, 3.0, 4.0]);
    let set = EmbeddingSet::open(&path).unwrap();
    assert_eq!(set.notes.renormalised_rows, 2);
    assert_eq!(set.notes.remarks.iter().map(|remark| remark.about).collect::<Vec<_>>(), [About::Normalised]);
    let stored = [round_to_f16(0.6).to_f64(), round_to_f16(0.8).to_f64()];
    let norm = stored[0].hypot(stored[1]);
    assert_eq!(set.vector(0), [round_to_f16(stored[0] / norm), round_to_f16(stored[1] / norm)]);
    assert_eq!(set.vector(1), [round_to_f16(0.6), round_to_f16(0.8)]);
    // Rows without direction.
    save(&[0.6, 0.8, 0.0, 0.0, f64::NAN, 1.0]);
    let error = EmbeddingSet::open(&path).err().unwrap();
    assert!(matches!(error, ColumnarError::BadRow { row: 1, count: 2, .. }), "{error}");
    let batch = EmbeddingReader::open(&path).unwrap().next().unwrap().unwrap();
    let bad: Vec<_> = batch.bad.iter().map(|(at, why)| (*at, why.code())).collect();
    assert_eq!(bad, [(1, "embedding_zero"), (2, "embedding_not_finite")]);
    assert_eq!(batch.vectors.len(), 6);
    // Wider elements.
    let wide = |digit: u8, rows: &[u8]| {
        let mut bytes = npy::head_bytes(1, 2);
        let at = bytes.windows(3).position(|w| w == b"<f2").unwrap();
        bytes[at + 2] = digit;
        bytes.extend(rows);
        std::fs::write(&path, bytes).unwrap();
        let set = EmbeddingSet::open(&path).unwrap();
        (set.vector(0).to_vec(), set.notes.converted_rows)
    };
    let unit = vec![round_to_f16(0.6), round_to_f16(0.8)];
    assert_eq!(wide(b'4', &[3f32, 4f32].map(f32::to_le_bytes).concat()), (unit.clone(), 1));
    assert_eq!(wide(b'8', &[3f64, 4f64].map(f64::to_le_bytes).concat()), (unit, 1));
}

#[test]
fn files_that_belong_together_must_agree() {
    let dir = tempfile::tempdir().unwrap();
    let part = |name: &str, architecture: &str, key: &str| {
        let mut identity = identity();
        identity.architecture = architecture.into();
        let head = EmbeddingHead { dim: 4, radii: false, identity: Some(identity), metadata: BTreeMap::new() };
        let path = dir.path().join("embeddings").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = EmbeddingWriter::new(&path, std::fs::File::create(&path).unwrap(), &head).unwrap();
        let vector = unit(5, 4);
        let row = EmbeddingRow { key, label: None, shard: Some("s"), index: Some(0), vector: &vector, radius: None };
        writer.push(row).unwrap();
        assert!(writer.push(EmbeddingRow { vector: &vector[1..], ..row }).is_err());
        writer.finish().unwrap();
    };
    part("2.1.arrow", "A", "b");
    part("10.0.arrow", "A", "c");
    part("1.0.arrow", "A", "a");
    part("2.3.arrow", "B", "not this incarnation");
    assert_eq!(EmbeddingSet::open(dir.path()).unwrap().keys, ["a", "b", "c"]);
    part("3.0.arrow", "B", "d");
    let error = EmbeddingSet::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("identity B weights seed:0") && error.contains("the first file has A"), "{error}");
}

#[test]
fn published_clip_retrieval_output() {
    let Some(data) = crate::skipped::test_data() else { return };
    let set = EmbeddingSet::open(&Path::new(&data).join("clip_retrieval_out/embeddings")).unwrap();
    assert_eq!((set.len(), set.dim), (9, 512));
    assert!(set.keys.iter().all(|key| key.contains("img")), "{:?}", set.keys);
    assert_eq!(set.notes.renormalised_rows, 0);
}
