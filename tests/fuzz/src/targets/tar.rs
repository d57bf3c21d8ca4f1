//! Tars: a header, a PAX header, whole shards, plain and compressed.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;

use trommel_core::credit::Permit;
use trommel_core::credit::workspace::Workspace;
use trommel_core::sample::{Event, ShardOutcome, Status};
use trommel_shard::compression::{Compression, CompressionLimits};
use trommel_shard::content::starts_a_tar;
use trommel_shard::header::{BLOCK, Header, Pax};
use trommel_shard::plan::{Plan, ShardRef};
use trommel_shard::reader::{
    Admitted, Decisions, KnownError, ReaderConfig, Replayed, Request, ShardReader, ViewBytes, key_hash,
};
use trommel_shard::store::memory::Memory;

use crate::{Limits, Outcome, Target, as_it_is};

const WORDS: &[&[u8]] = &[
    b"ustar\0",
    b"ustar  \0",
    b"tar\0",
    b"././@LongLink",
    b"path=",
    b"size=",
    b"GNU.sparse.name=",
    b"GNU.sparse.major=1",
    b".jpg",
    b".txt",
    b".json",
    b".png",
    b"__index__",
    b"._a.jpg",
    b"{\"caption\":\"x\"}",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x07",
    b"0000000001",
    b"77777777777",
    b"17 path=a/b.jpg\n",
    b"9 size=3\n",
    b"L",
    b"K",
    b"x",
    b"g",
    b"S",
    b"7",
];

pub(super) fn targets() -> Vec<Target> {
    let limits = Limits::default();
    let header = Target {
        name: "tar-header",
        about: "a tar header's block, and the records of a PAX header behind it",
        seeds: header_seeds,
        words: WORDS,
        mend: checksums,
        limits: Limits { input_bytes: 4096, heap_bytes: 64 << 10, ..limits },
        run: header,
    };
    let plain = Target {
        name: "tar",
        about: "a shard, read twice, replayed, and read once more compressed",
        seeds: tars,
        words: WORDS,
        mend: checksums,
        limits,
        run: |input| shard(input, true),
    };
    let compressed = Target {
        name: "tar-compressed",
        about: "a shard in gzip, zstd, bzip2, xz or lzma",
        seeds: compressed_tars,
        words: &[b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0", b"\x5d\0\0\x80\0"],
        mend: as_it_is,
        limits: Limits { heap_bytes: 24 << 20, ..limits },
        run: |input| shard(input, false),
    };
    vec![header, plain, compressed]
}

/// Gives every block that looks like a header its checksum.
fn checksums(input: &mut Vec<u8>) {
    for block in input.chunks_exact_mut(BLOCK).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn header(input: &[u8]) -> Outcome {
    let mut said = String::new();
    if let Some(block) = input.first_chunk::<BLOCK>() {
        let read = Header::parse(block);
        if read.is_ok() && !starts_a_tar(block) {
            return Err("a header that does not start a tar".into());
        }
        if read.as_ref().is_ok_and(|header| header.name.len() > 256) {
            return Err("a name longer than its field".into());
        }
        said = match read {
            Ok(header) => format!("{} {} {}", char::from(header.kind), header.sparse_continues, header.size.min(2)),
            Err(error) => error.to_string(),
        };
    }
    let records = input.get(BLOCK..).unwrap_or(input);
    let mut pax = Pax::default();
    let whole = pax.add(records);
    let long = [&pax.path, &pax.sparse_name].into_iter().flatten().any(|text| text.len() > records.len());
    if long || pax.size.is_some_and(|size| i64::try_from(size).is_err()) {
        return Err(format!("records say more than there is: {pax:?}"));
    }
    let Pax { path, size, sparse, sparse_name } = pax;
    Ok(format!("{said} {whole:?} {} {} {sparse} {}", path.is_some(), size.is_some(), sparse_name.is_some()))
}

/// What a ledger would know of the shard.
struct Judged(Vec<(Status, u64)>);

impl Decisions for Judged {
    fn shard(&self, _: u64) -> Result<Option<Arc<Vec<Status>>>, KnownError> {
        Ok(Some(Arc::new(self.0.iter().map(|(status, _)| *status).collect())))
    }

    fn keys(&self, _: u64) -> Result<Option<Vec<u64>>, KnownError> {
        Ok(Some(self.0.iter().map(|(_, key)| *key).collect()))
    }
}

/// A sample as it was sent: status, key, bytes of its picture.
#[derive(Clone, Debug, PartialEq)]
struct Row(Status, String, Vec<u8>);

#[derive(PartialEq)]
struct Seen {
    rows: Vec<Row>,
    outcome: String,
    notices: String,
    bytes: u64,
}

fn reader(bytes: &[u8], judged: Option<Judged>) -> ShardReader {
    let shard = ShardRef { ordinal: 0, name: "shard".into(), url: "shard".into(), bytes: Some(bytes.len() as u64) };
    let compression = CompressionLimits { max_ratio: 100, ratio_free_bytes: 4 << 20, ..CompressionLimits::default() };
    let config = ReaderConfig { compression, ..ReaderConfig::default() };
    let plan = Arc::new(Plan { shards: vec![shard], ..Plan::default() });
    let decisions = judged.map(|judged| Arc::new(judged) as Arc<dyn Decisions>);
    ShardReader::new(Memory::of([("shard", bytes)]), plan, config, ViewBytes::default(), decisions)
}

fn sent(reader: &ShardReader, replay: bool) -> Vec<Admitted> {
    let mut items = Vec::new();
    let request = Request { pass: 0, ordinal: 0, train_from: 0, replay };
    let mut admit = |_| -> Result<Permit, Infallible> { Ok(Permit::free()) };
    let Ok(()) = reader.read_shard(&request, Workspace::unbounded(), &mut admit, &mut |item| {
        items.push(item);
        Ok(())
    });
    items
}

fn judged(bytes: &[u8]) -> Result<Seen, String> {
    let mut items = sent(&reader(bytes, None), false);
    let Some(Admitted::Event(Event::End(end))) = items.pop() else { return Err("the end does not come last".into()) };
    let mut rows = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let (info, status, picture) = match item {
            Admitted::Sample(sample) => (sample.info, Status::Kept, sample.payload.image.to_vec()),
            Admitted::Event(Event::Fate(fate)) => (fate.info.clone(), Status::Rejected, Vec::new()),
            other => return Err(format!("sent while judging: {other:?}")),
        };
        if info.id.index as usize != at {
            return Err(format!("sample {at} has the index {}", info.id.index));
        }
        rows.push(Row(status, info.key.clone(), picture));
    }
    if rows.len() != end.count as usize || end.bytes > bytes.len() as u64 {
        return Err(format!("{} samples and {} bytes of {}, by {end:?}", rows.len(), bytes.len(), end.bytes));
    }
    if let ShardOutcome::Unavailable(why) | ShardOutcome::Changed(why) = &end.outcome {
        return Err(format!("whole bytes are said to be no data: {why}"));
    }
    let notices = end.notices.lines().collect::<Vec<_>>().join("; ");
    Ok(Seen { rows, outcome: format!("{:?}", end.outcome), notices, bytes: end.bytes })
}

fn shard(input: &[u8], plain: bool) -> Outcome {
    let seen = judged(input)?;
    if plain && seen != judged(input)? {
        return Err("read twice, it is not the same".into());
    }
    // A ledger's decisions on it, replayed: the same samples.
    let decisions = seen.rows.iter().map(|Row(status, key, _)| (*status, key_hash(key))).collect();
    let mut replayed = sent(&reader(input, Some(Judged(decisions))), true);
    let Some(Admitted::Replayed(Replayed::End { end, .. })) = replayed.pop() else {
        return Err("the replay's end does not come last".into());
    };
    if !matches!(end.outcome, ShardOutcome::Complete(_) | ShardOutcome::Rejected(_)) {
        return Err(format!("the replay of the same bytes: {:?}", end.outcome));
    }
    let again: Vec<(&str, &[u8])> = replayed
        .iter()
        .filter_map(|item| match item {
            Admitted::Sample(sample) => Some((sample.info.key.as_str(), &*sample.payload.image)),
            _ => None,
        })
        .collect();
    let kept: Vec<(&str, &[u8])> = seen
        .rows
        .iter()
        .filter(|Row(status, ..)| *status == Status::Kept)
        .map(|Row(_, key, picture)| (key.as_str(), picture.as_slice()))
        .collect();
    if again != kept {
        return Err(format!("{} samples kept, {} replayed", kept.len(), again.len()));
    }
    if plain && Compression::of(input.get(..BLOCK).unwrap_or(input)) == Compression::None && starts_a_tar(input) {
        let packed = judged(&zstd::encode_all(input, 1).unwrap())?;
        if (packed.rows, packed.outcome) != (seen.rows.clone(), seen.outcome.clone()) {
            return Err("compressed it holds other samples".into());
        }
    }
    let kinds: Vec<&str> = seen.rows.iter().take(6).map(|Row(status, ..)| status.as_str()).collect();
    let outcome: String = seen.outcome.split("begins").take(1).collect();
    Ok(format!("{} {outcome} {}", kinds.join(" "), seen.notices.split("(first").next().unwrap_or_default()))
}

/// A member's blocks, its data padded.
fn member(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut header = ::tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(data.len() as u64);
    header.as_mut_bytes()[156] = kind;
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn header_seeds() -> Vec<Vec<u8>> {
    vec![
        [member("a.jpg", b'0', b""), b"16 path=x/a.jpg\n9 size=3\n".to_vec()].concat(),
        b"22 GNU.sparse.major=1\n24 GNU.sparse.name=a/b\n12 path=a.b\n".to_vec(),
        tars().swap_remove(1)[..BLOCK].to_vec(),
    ]
}

fn tars() -> Vec<Vec<u8>> {
    let end = vec![0; 1024];
    let pair = [
        member("a.jpg", b'0', &[1; 700]),
        member("a.txt", b'0', b"a caption"),
        member("a.json", b'0', b"{\"uid\":\"1\",\"caption\":\"\\ud800\"}"),
        member("b/c.png", b'0', &[2; 30]),
        member("b/c.jpg", b'0', &[3; 30]),
    ];
    let odd = [
        member("@LongLink", b'L', &[b'n'; 200]),
        member("x", b'0', b"x"),
        member("pax", b'x', b"16 path=x/a.jpg\n9 size=5\n"),
        member("a", b'0', b"12345"),
        member("global", b'g', b"14 path=g.jpg\n"),
        member("s", b'S', b"1"),
        member("l.jpg", b'2', b""),
        member("._m.jpg", b'0', b"1"),
        member("q.jpg", b'7', b"1"),
        member("q.jpg", 0, b"2"),
    ];
    let mut gnu = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_size(3);
    gnu.append_data(&mut header, format!("{}/c.jpg", "long".repeat(40)), &b"CCC"[..]).unwrap();
    vec![
        [pair.concat(), end.clone()].concat(),
        [odd.concat(), end.clone()].concat(),
        gnu.into_inner().unwrap(),
        pair[0].clone(),
        end,
    ]
}

fn compressed_tars() -> Vec<Vec<u8>> {
    let whole = tars().swap_remove(0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip.write_all(&whole).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&whole).unwrap();
    let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
    let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    lzma.write_all(&whole).unwrap();
    let zst = zstd::encode_all(&whole[..], 3).unwrap();
    let much = zstd::encode_all(&vec![0u8; 6 << 20][..], 1).unwrap();
    vec![
        [&gzip[..], &gzip].concat(),
        zst.clone(),
        [zst, much.clone()].concat(),
        bzip.finish().unwrap(),
        xz.finish().unwrap(),
        lzma.finish().unwrap(),
        much,
    ]
}
