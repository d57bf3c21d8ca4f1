//! Shards for the benches that read: a picture of 10 to 30 kB that nobody decodes, a caption and a json of each sample.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use trommel_core::hash::mix;

use members::append;

#[path = "../../tests/common/members.rs"]
mod members;

/// Samples of a shard.
pub const SAMPLES: u64 = 10_000;
const PICTURE_BYTES: u64 = 20_000;

/// The key of a shard's sample.
pub fn key(shard: u64, at: u64) -> String {
    format!("{:09}", shard * SAMPLES + at)
}

/// Writes a shard; the same number gives the same bytes.
pub fn write(path: &Path, shard: u64) {
    let mut out = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path).unwrap()));
    let noise: Vec<u8> = (0..PICTURE_BYTES * 3 / 2).map(|at| mix(shard ^ (at << 32)) as u8).collect();
    for at in 0..SAMPLES {
        let (key, random) = (key(shard, at), mix(shard * SAMPLES + at));
        let mut picture = noise[..(PICTURE_BYTES / 2 + random % PICTURE_BYTES) as usize].to_vec();
        picture[..8].copy_from_slice(&random.to_le_bytes());
        let json =
            format!("{{\"url\": \"https://example.org/{key}.jpg\", \"caption\": \"a dog\", \"key\": \"{key}\"}}");
        for (extension, data) in [("jpg", &picture[..]), ("json", json.as_bytes()), ("txt", b"a dog")] {
            append(&mut out, format!("{key}.{extension}"), data);
        }
    }
    out.into_inner().unwrap();
}
