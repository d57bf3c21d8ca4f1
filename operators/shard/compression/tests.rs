//! Compressions by their first bytes, and their limits. Made by Python's own `lzma` and `bz2` where a peer is set.
#![allow(clippy::print_stdout)]

use std::io::Write;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn plain(bytes: Vec<u8>, limits: &CompressionLimits) -> io::Result<Vec<u8>> {
    let (raw, meter) = Metered::new(Box::new(Cursor::new(bytes)), None);
    let mut out = Vec::new();
    decompress(raw, meter, limits, Workspace::unbounded())?.0.read_to_end(&mut out)?;
    Ok(out)
}

#[test]
fn known_by_first_bytes() {
    let limits = CompressionLimits::default();
    let zst = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for compress in [&gzip as &dyn Fn(&[u8]) -> Vec<u8>, &bzip2, &zst] {
        let two = [compress(b"one "), compress(b"two")].concat();
        assert_eq!(plain(two, &limits).unwrap(), b"one two");
    }
    for short in [&b""[..], b"a", b"\x1f", b"plain text", b"BZh9 is the name of a file", b"]\0\0\0\0\0"] {
        assert_eq!(plain(short.to_vec(), &limits).unwrap(), short);
    }
}

/// A member's name stands where other formats have their mark.
#[test]
fn a_tar_is_a_tar_whatever_its_first_member_is_called() {
    for name in ["BZh91AY&SY.jpg", "PK\u{3}\u{4}.jpg", "PAR1.jpg", "<html>.jpg", "]"] {
        let tar = crate::testing::tar_of(&[(name, b"picture")]);
        assert_eq!(Compression::of(&tar[..BLOCK]), Compression::None, "{name}");
        assert_eq!(plain(tar.clone(), &CompressionLimits::default()).unwrap(), tar, "{name}");
    }
}

#[test]
fn bombs_are_stopped() {
    let limits = CompressionLimits { ratio_free_bytes: 1 << 20, max_ratio: 100, ..Default::default() };
    let bomb = vec![0u8; 8 << 20];
    for bytes in [gzip(&bomb), bzip2(&bomb), zstd::encode_all(&bomb[..], 3).unwrap()] {
        assert!(plain(bytes, &limits).unwrap_err().to_string().contains("100 times"));
    }
    let limits = CompressionLimits { max_bytes: 1 << 20, ..Default::default() };
    assert!(plain(gzip(&bomb), &limits).unwrap_err().to_string().contains("1048576 bytes"));
}

#[test]
fn what_needs_more_memory_than_a_reader_has_says_how_much() {
    // A frame by RFC 8878: a window of 2^28, then one raw block of 1,000 bytes, the last.
    let head = [0x28, 0xb5, 0x2f, 0xfd, 0, (28 - 10) << 3, 0x41, 0x1f, 0];
    let wide = [&head[..], &[7; 1000]].concat();
    let error = plain(wide.clone(), &CompressionLimits::default()).unwrap_err().to_string();
    assert!(error.contains("zstd window needs 268435456 bytes") && error.contains("has 134217728"), "{error}");
    let limits = CompressionLimits { max_zstd_window_log: 28, ..Default::default() };
    assert_eq!(plain(wide, &limits).unwrap(), [7; 1000]);
}

/// A zstd frame with a window of `2^log`, whatever its content.
fn frame(bytes: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8], dictionary: u32) -> Vec<u8> {
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(dictionary);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn frames_may_be_shorter_than_the_longest_header_and_skippable() {
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let (mut packed, mut text) = (skippable.to_vec(), Vec::new());
    for at in 0..300usize {
        let part = vec![at as u8; [0, 1, 2, 700][at % 4]];
        packed.extend(if at % 3 == 0 { zstd::encode_all(&part[..], 1).unwrap() } else { frame(&part, 17) });
        packed.extend(if at % 5 == 0 { &skippable[..] } else { &[] });
        text.extend(part);
    }
    assert_eq!(plain(packed.clone(), &CompressionLimits::default()).unwrap(), text);
    packed.pop();
    packed.truncate(packed.len() - 3);
    assert!(plain(packed, &CompressionLimits::default()).is_err(), "cut off");
}

/// Memory is taken when a header has said how much, also of a later frame, and given back with the decoder.
#[test]
fn a_decoder_takes_what_each_frame_needs_out_of_its_readers_workspace() {
    use trommel_core::credit::{Credit, CreditConfig};
    use trommel_core::stop::Stop;
    let credit = |bytes| Credit::new(CreditConfig { budget_bytes: bytes, lanes: 1, quantum_bytes: 0 }, Stop::new());
    let text: Vec<u8> = (0..3 << 20).map(|at: u32| (at ^ at >> 7) as u8).collect();
    let wide = [frame(&text, 20), frame(&text, 24)].concat();
    let wide_xz = [xz(&text, 1 << 20), xz(&text, 1 << 24)].concat();
    for (bytes, what) in [(wide, "zstd window"), (wide_xz, "xz dictionary")] {
        let open = |credit: &Credit| {
            let (raw, meter) = Metered::new(Box::new(Cursor::new(bytes.clone())), None);
            let workspace = credit.workspace(0);
            (decompress(raw, meter.clone(), &CompressionLimits::default(), workspace).unwrap().0, meter)
        };
        let enough = credit(12 << 20);
        let ((mut reader, _), mut half) = (open(&enough), vec![0; text.len()]);
        reader.read_exact(&mut half).unwrap();
        assert_eq!((half == text, enough.gauge().workspace_bytes), (true, 0), "{what}: the reader's own is enough");
        reader.read_exact(&mut half).unwrap();
        assert_eq!((half == text, enough.gauge().workspace_bytes), (true, 12 << 20), "{what}");
        drop(reader);
        assert_eq!(enough.gauge().workspace_bytes, 0);

        let (mut reader, meter) = open(&credit((12 << 20) - 1));
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        let said = meter.failure().unwrap();
        let expected = format!(
            "its {what} needs 16777216 bytes of memory, and --memory leaves 12582911 for all readers together, of which others hold 0"
        );
        assert!(said.starts_with(&expected), "{said}");
    }
}

/// The start of an xz stream whose blocks are empty, each with a dictionary of `2^log` bytes (the .xz file format 1.2.0, 2.1.1 and 3).
fn empty_blocks(logs: [u8; 2]) -> Vec<u8> {
    let checked = |bytes: &[u8], from: usize| {
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[from..]);
        [bytes, &crc.sum().to_le_bytes()[..]].concat()
    };
    let block = |log: u8| {
        let header = checked(&[2, 0, 0x21, 1, 2 * (log - 12), 0, 0, 0], 0);
        [&header[..], &[0; 4], &[0; 4]].concat() // the end of its LZMA2 data, padded; the CRC32 of nothing
    };
    [checked(&[0xfd, b'7', b'z', b'X', b'Z', 0, 0, 1], 6), block(logs[0]), block(logs[1])].concat()
}

/// Until a plain byte is out a reader may wait for memory, but not for what it has taken itself.
#[test]
fn an_empty_frame_keeps_nobody_waiting() {
    use trommel_core::credit::{Credit, CreditConfig};
    use trommel_core::stop::Stop;
    // A frame by RFC 8878: its window, then one raw block of no bytes, the last.
    let empty = |log: u8| vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 1, 0, 0];
    for (bytes, what) in [([empty(23), empty(24)].concat(), "zstd window"), (empty_blocks([23, 24]), "xz dictionary")] {
        let stop = Stop::new();
        let budget_bytes = (12 << 20) - 1;
        let credit = Credit::new(CreditConfig { budget_bytes, lanes: 1, quantum_bytes: 0 }, stop.clone());
        let _waits = credit.on_waiting(move || stop.request()); // where it waits after all, it comes back as stopped
        let (raw, meter) = Metered::new(Box::new(Cursor::new(bytes)), None);
        let workspace = credit.workspace(0);
        let mut reader = decompress(raw, meter.clone(), &CompressionLimits::default(), workspace).unwrap().0;
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        let said = meter.failure().unwrap();
        let expected = format!(
            "its {what} needs 16777216 bytes of memory, and --memory leaves 12582911 for all readers together, of which others hold 0"
        );
        assert!(said.starts_with(&expected), "{said}");
    }
}

/// What Python's `lzma` writes: two streams, every check, presets up to 9, `.lzma`, and a dictionary of 256 MiB.
#[test]
fn peer_python_lzma() {
    let Some(python) = crate::skipped::peer("lzma") else { return };
    const SCRIPT: &str = r#"
import lzma, sys
text = bytes(range(256)) * 4000
def write(name, data): open(f"{sys.argv[1]}/{name}", "wb").write(data)
write("plain", text)
for check in (lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256): write(f"ok-{check}.xz", lzma.compress(text, check=check))
for preset in (0, 9, 9 | lzma.PRESET_EXTREME): write(f"ok-p{preset}.xz", lzma.compress(text, preset=preset))
write("ok-two.xz", lzma.compress(text[:999]) + bytes(8) + lzma.compress(text[999:]))
for preset in (0, 6, 9): write(f"ok-p{preset}.lzma", lzma.compress(text, format=lzma.FORMAT_ALONE, preset=preset))
write("ok-bcj.xz", lzma.compress(text, filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6}]))
wide = {"preset": 0, "dict_size": 1 << 28}
write("wide.xz", lzma.compress(text[:999], filters=[{"id": lzma.FILTER_LZMA2, **wide}]))
write("wide.lzma", lzma.compress(text[:999], format=lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, **wide}]))
"#;
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new(python).args(["-c", SCRIPT]).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = std::fs::read(folder.path().join("plain")).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let (name, bytes) = (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
        if name.starts_with("ok-") {
            assert_eq!(plain(bytes.clone(), &CompressionLimits::default()).unwrap(), text, "{name}");
            for length in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
                let _cut_off = plain(bytes[..length].to_vec(), &CompressionLimits::default());
            }
            seen += 1;
        } else if name.starts_with("wide") {
            let error = plain(bytes, &CompressionLimits::default()).unwrap_err().to_string();
            assert!(error.contains("dictionary needs 268435456 bytes"), "{name}: {error}");
        }
    }
    assert_eq!(seen, 12);
}
