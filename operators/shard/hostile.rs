//! Nothing that a file holds makes the reader panic, hang, or keep more than it was given.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write;
use std::path::{Path, PathBuf};

use super::reader::ReaderConfig;
use super::samples::{GroupConfig, RepeatedMember};
use super::tar::TarLimits;
use super::testing::{append, read, remark, tar_of};
use trommel_core::sample::ShardOutcome;

fn block(name: &[u8], size: &[u8; 12], kind: u8) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[124..136].copy_from_slice(size);
    header.as_mut_bytes()[156] = kind;
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn octal(size: usize) -> [u8; 12] {
    format!("{size:011o}\0").into_bytes().try_into().unwrap()
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

fn pax(records: &str, kind: u8) -> Vec<u8> {
    [block(b"pax", &octal(records.len()), kind), padded(records.as_bytes())].concat()
}

fn member(name: &str, data: &[u8]) -> Vec<u8> {
    [block(name.as_bytes(), &octal(data.len()), b'0'), padded(data)].concat()
}

/// Keys with what became of them, and the remark.
fn seen(bytes: Vec<u8>, config: &ReaderConfig) -> (Vec<String>, Option<String>) {
    let (rows, end) = read(bytes, config);
    let word = |row: super::testing::Row| match row.image {
        Ok((extension, data)) => format!("{} {extension} {}", row.key, data.len()),
        Err(code) => format!("{} {code}", row.key),
    };
    (rows.into_iter().map(word).collect(), remark(&end).map(Into::into))
}

fn check(bytes: Vec<u8>, wanted: &[&str], wanted_remark: Option<&str>) {
    let (rows, remark) = seen(bytes, &ReaderConfig::default());
    assert_eq!(
        (rows.iter().map(String::as_str).collect::<Vec<_>>(), remark.as_deref()),
        (wanted.to_vec(), wanted_remark)
    );
}

const END: [u8; 1024] = [0; 1024];

#[test]
fn a_tar_cut_at_every_byte_keeps_its_whole_samples() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/c.jpg", "long".repeat(40));
    append(&mut builder, "a.jpg", &[1; 700]);
    append(&mut builder, "a.txt", b"one");
    append(&mut builder, "b.png", &[2; 512]);
    append(&mut builder, "b.json", b"{}");
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    builder.append_data(&mut header, &long, &b"CCC"[..]).unwrap();
    append(&mut builder, "d.jpg", &[]);
    let whole = builder.into_inner().unwrap();
    let (all, _) = read(whole.clone(), &ReaderConfig::default());
    assert_eq!(all.len(), 4);
    let mut before = 0;
    for length in 0..=whole.len() {
        let (rows, end) = read(whole[..length].to_vec(), &ReaderConfig::default());
        assert!(rows.len() >= before, "{length}");
        before = rows.len();
        if let Some((last, sure)) = rows.split_last() {
            assert_eq!(sure, &all[..sure.len()], "{length}");
            let same = &all[sure.len()];
            match &last.image {
                // What is counted whole has all its picture.
                Ok(_) => assert_eq!(last.image, same.image, "{length}"),
                Err(code) => assert_eq!(code, "cut_off", "{length}"),
            }
        }
        assert!(length == whole.len() || remark(&end).is_some(), "{length}");
    }
}

#[test]
fn compressed_streams_cut_at_every_byte_do_the_same() {
    let samples: Vec<_> =
        (0..20u8).map(|i| (format!("{i:03}.jpg"), vec![i.wrapping_mul(37); 300 + usize::from(i)])).collect();
    let whole = tar_of(&samples.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect::<Vec<_>>());
    let (all, _) = read(whole.clone(), &ReaderConfig::default());
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&whole).unwrap();
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&whole).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&whole).unwrap();
    let zst = zstd::encode_all(&whole[..], 1).unwrap();
    for bytes in [gz.finish().unwrap(), zst, bz.finish().unwrap(), xz.finish().unwrap()] {
        assert_eq!(read(bytes.clone(), &ReaderConfig::default()).0, all);
        for length in 0..bytes.len() {
            let (rows, end) = read(bytes[..length].to_vec(), &ReaderConfig::default());
            assert!(rows.len() <= all.len() && remark(&end).is_some(), "{length}");
            assert!(
                rows.iter().zip(&all).all(|(row, same)| row == same || row.image == Err("cut_off".into())),
                "{length}"
            );
        }
        // A wrong checksum behind the data is a remark, not a loss.
        let mut wrong = bytes.clone();
        if wrong[0] == 0x1f {
            let at = wrong.len() - 6;
            wrong[at] ^= 1;
            let (rows, end) = read(wrong, &ReaderConfig::default());
            assert_eq!((rows.len(), remark(&end).is_some()), (20, true));
        }
    }
}

#[test]
fn announced_sizes_are_not_believed() {
    let huge: [u8; 12] = *b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    let config = ReaderConfig {
        group: GroupConfig {
            max_image_bytes: u64::MAX,
            max_text_bytes: u64::MAX,
            max_json_bytes: u64::MAX,
            ..Default::default()
        },
        tar: TarLimits { max_name_bytes: u64::MAX, max_pax_bytes: u64::MAX },
        ..Default::default()
    };
    for name in [&b"a.jpg"[..], b"a.txt", b"a.json", b"a.other"] {
        let (rows, remark) = seen([block(name, &huge, b'0'), vec![7; 5000]].concat(), &config);
        assert_eq!(rows, ["a cut_off"]);
        assert_eq!(remark.unwrap(), "cut off at byte 5512: cut off inside a member");
    }
    for kind in [b'L', b'K', b'x', b'g', b'S', b'D', b'V'] {
        let (rows, remark) = seen([block(b"a.bin", &huge, kind), vec![7; 5000]].concat(), &config);
        assert!(rows.len() <= 1 && remark.is_some(), "{kind}");
    }
    let big = [member("a.txt", b"x"), block(b"a.jpg", &octal(300 << 20), b'0')].concat();
    let (rows, _) = seen([member("b.jpg", b"B"), big].concat(), &ReaderConfig::default());
    assert_eq!(rows, ["b jpg 1", "a cut_off"]);
    let small = ReaderConfig { group: GroupConfig { max_image_bytes: 3, ..Default::default() }, ..Default::default() };
    assert_eq!(seen(tar_of(&[("a.jpg", b"1234"), ("b.jpg", b"123")]), &small).0, ["a member_too_large", "b jpg 3"]);
}

#[test]
fn damaged_headers_end_the_shard_there() {
    let mut bad = member("b.jpg", b"B");
    bad[0] ^= 1;
    let bytes = [member("a.jpg", b"A"), member("z.jpg", b"Z"), bad, member("c.jpg", b"C")].concat();
    check(bytes, &["a jpg 1", "z cut_off"], Some("cut off at byte 2048: header checksum does not match"));
    let negative = block(b"b.jpg", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0", b'0');
    check(
        negative,
        &[],
        Some(concat!(
            "not a tar: header has an impossible size; begins with ",
            r#""b.jpg\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00""#
        )),
    );
    let short = r#"not a tar: 14 bytes, fewer than a header has; begins with "this is no tar""#;
    check(b"this is no tar".to_vec(), &[], Some(short));
    check(Vec::new(), &[], Some("the file is empty"));
    check(END.to_vec(), &[], Some("no sample"));
    let short = r#"not a tar: 4 bytes, fewer than a header has; begins with "BZh9""#;
    check(b"BZh9".to_vec(), &[], Some(short));
}

#[test]
fn end_marks() {
    let a = member("a.jpg", b"A");
    check([&a[..], &END].concat(), &["a jpg 1"], None);
    check(a.clone(), &["a jpg 1"], Some("no end mark: ends at byte 1024"));
    check(a[..600].to_vec(), &["a jpg 1"], Some("no end mark: ends at byte 600"));
    check([&a[..], &END[..512]].concat(), &["a jpg 1"], Some("one zero block in place of two at byte 1024"));
    let more = [&a[..], &END[..512], &a].concat();
    check(more, &["a jpg 1"], Some("one zero block in place of two at byte 1024, what follows is not read"));
    check([&a[..], &END, &a].concat(), &["a jpg 1"], Some("another tar behind the end mark is not read"));
    check([&a[..], &END, b"A line."].concat(), &["a jpg 1"], Some("bytes behind the end mark are not read"));
    check([&a[..], &END, &[0; 9000], &a].concat(), &["a jpg 1"], Some("bytes behind the end mark are not read"));
    check([&a[..], &END, &[0; 9216], &a].concat(), &["a jpg 1"], Some("another tar behind the end mark is not read"));
    check([&a[..], &END, &[0; 9000]].concat(), &["a jpg 1"], None);
}

#[test]
fn extension_headers() {
    let a = member("short.jpg", b"A");
    check([&pax("16 path=x/a.JPG\n", b'x')[..], &a, &END].concat(), &["x/a jpg 1"], None);
    let global =
        [&pax("14 path=g.jpg\n", b'g')[..], &a, &pax("14 path=l.jpg\n", b'x'), &a, &pax("8 path=\n", b'x'), &a, &END];
    check(global.concat(), &["g jpg 1", "l jpg 1", "short jpg 1"], None);
    // The size of the PAX header counts, not the header's own.
    let sized = [
        &pax("8 size=3\n".replace('8', "9").as_str(), b'x')[..],
        &block(b"a.jpg", &octal(0), b'0'),
        &padded(b"123"),
        &END,
    ];
    check(sized.concat(), &["a jpg 3"], None);
    let bad = [&pax("nonsense", b'x')[..], &a, &END].concat();
    check(bad, &["short jpg 1"], Some("malformed PAX headers: 1"));
    let sparse = [&pax("22 GNU.sparse.major=1\n", b'x')[..], &member("s.jpg", b"S"), &a, &END].concat();
    check(sparse, &["s sparse_member", "short jpg 1"], Some("sparse members passed over: 1"));
    let name = [b'n'; 200];
    let long =
        |first: &[u8]| [&block(b"././@LongLink", &octal(first.len()), b'L')[..], &padded(first), &a, &END].concat();
    check(long(&[&name[..], b".png\0"].concat()), &[format!("{} png 1", "n".repeat(200)).as_str()], None);
    check(long(&[b'n'; 70_000]), &[], Some("no sample; members with too large a header passed over: 1"));
    let cut = [&pax("16 path=x/a.JPG\n", b'x')[..]].concat();
    check(
        [&a[..], &cut].concat(),
        &["short cut_off"],
        Some("cut off at byte 2048: cut off between a member's headers"),
    );
}

/// Python's `tarfile` says "end of file header" of it.
#[test]
fn headers_before_the_end_mark_are_a_cut_member() {
    let (a, b) = (member("a.jpg", b"A"), member("b.jpg", b"B"));
    let why = "cut off at byte 3072: the end mark stands between a member's headers";
    let name = [block(b"././@LongLink", &octal(204), b'L'), padded(&[b'n'; 204])].concat();
    let target = [block(b"././@LongLink", &octal(204), b'K'), padded(&[b'n'; 204])].concat();
    let long = [block(b"././@LongLink", &octal(70_000), b'L'), padded(&vec![b'n'; 70_000])].concat();
    let [local, solaris] = [b'x', b'X'].map(|kind| pax("16 path=x/a.JPG\n", kind));
    for header in [&name, &target, &local, &solaris] {
        for end in [&END[..], &END[..512]] {
            check([&a[..], &b, header, end].concat(), &["a jpg 1", "b cut_off"], Some(why));
        }
        check(
            [&header[..], &END].concat(),
            &[],
            Some("no sample; cut off at byte 1024: the end mark stands between a member's headers"),
        );
    }
    let far = "cut off at byte 71680: the end mark stands between a member's headers";
    check([&a[..], &long, &END].concat(), &["a cut_off"], Some(far));
    let (_, end) = read([&a[..], &b, &name, &END].concat(), &ReaderConfig::default());
    assert!(end.notices.get("shard_cut_off").is_some_and(|notice| notice.loss), "{:?}", end.notices);
    // A global header announces no member.
    let comment = pax("20 comment=a commit\n", b'g');
    check([&comment[..], &END].concat(), &[], Some("no sample"));
    check([&a[..], &comment, &END].concat(), &["a jpg 1"], None);
    check([&a[..], &comment, &name, &END].concat(), &["a cut_off"], Some(why));
}

/// A type that POSIX does not know, Solaris' access rights, GNU's continuation and old long names: their data is not read, and that is said.
#[test]
fn members_of_types_that_are_not_read_are_counted() {
    let of = |name: &str, kind: u8| [block(name.as_bytes(), &octal(600), kind), padded(&[b'x'; 600])].concat();
    let (jpg, txt) = (member("a.jpg", b"A"), member("a.txt", b"text"));
    let odd: Vec<Vec<u8>> = b"AMNZ8\x01".iter().map(|&kind| of("odd.jpg", kind)).collect();
    let bytes = [jpg.clone(), odd.concat(), txt, member("b.jpg", b"B"), END.to_vec()].concat();
    check(
        bytes.clone(),
        &["a jpg 1", "b jpg 1"],
        Some("members of types that webdataset does not read passed over: 6"),
    );
    let (rows, end) = read(bytes, &ReaderConfig::default());
    assert_eq!(rows[0].caption.as_deref(), Some("text"), "they come between no members");
    let found: Vec<_> = end.notices.iter().map(|(code, of)| (code, of.count, of.first.as_str(), of.loss)).collect();
    assert_eq!(found, [("unread_members", 6, "0.tar: odd.jpg, type flag `A`", true)]);
    // Where there is nothing else, this is no empty tar.
    let (rows, end) = read([of("a.jpg", b'A'), of("a.txt", 1), END.to_vec()].concat(), &ReaderConfig::default());
    let due = "no sample; members of types that webdataset does not read passed over: 2";
    assert!(rows.is_empty());
    assert!(matches!(&end.outcome, ShardOutcome::Rejected(why) if why.code == "no_samples" && why.detail == due));
    // A volume's label and the folders of an incremental archive are no files.
    check([of("label", b'V'), of("folder/", b'D'), jpg, END.to_vec()].concat(), &["a jpg 1"], None);
}

#[test]
fn repeated_members() {
    let bytes = tar_of(&[("a.jpg", b"1"), ("a.txt", b"x"), ("a.jpg", b"22"), ("a.JPG", b"333"), ("b.jpg", b"4")]);
    let (rows, remark) = seen(bytes.clone(), &ReaderConfig::default());
    assert_eq!(rows, ["a jpg 1", "a jpg 2", "a jpg 3", "b jpg 1"]);
    assert_eq!(remark.unwrap(), "repeated members: 2");
    let group = GroupConfig { repeated: RepeatedMember::Reject, ..Default::default() };
    let (rows, _) = seen(bytes, &ReaderConfig { group, ..Default::default() });
    assert_eq!(rows, ["a repeated_member", "b jpg 1"]);
}

#[test]
fn the_preferred_picture_is_taken_wherever_it_stands() {
    check(tar_of(&[("a.webp", b"1"), ("a.png", b"22"), ("a.jpg", b"333"), ("a.gif", b"4444")]), &["a jpg 3"], None);
    check(tar_of(&[("a.05.png", b"1"), ("a.txt", b"x")]), &["a no_image"], None);
    let many: Vec<_> = (0..300).map(|i| format!("a.x{i}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    check(tar_of(&many), &["a too_many_members"], None);
    // A few members with endless extensions are as many.
    let mut long = Vec::new();
    for at in 0..3 {
        let name = format!("a.{}{at}", "x".repeat(30_000));
        long.extend([block(b"././@LongLink", &octal(name.len()), b'L'), padded(name.as_bytes()), member("a.x", b"x")]);
    }
    long.extend([member("a.jpg", b"x"), END.to_vec()]);
    check(long.concat(), &["a long_member_names"], None);
    for (field, code) in [("uid", "long_metadata"), ("url", "long_metadata"), ("sha256", "long_metadata")] {
        let json = format!(r#"{{"{field}":"{}"}}"#, "x".repeat(65_537));
        let sample = tar_of(&[("a.jpg", b"x"), ("a.json", json.as_bytes())]);
        check(sample, &[&format!("a {code}")], None);
    }
}

#[test]
fn what_is_no_file_is_no_member() {
    let link = |kind| block(b"a.jpg", &octal(77), kind);
    let bytes: Vec<u8> =
        (b'1'..=b'6').flat_map(link).chain(member("__meta__", b"x")).chain(member("__m__/a.jpg", b"x")).collect();
    let bytes =
        [bytes, member(".hidden.jpg", b"x"), member("noext", b"x"), member("a.jpg", b"A"), END.to_vec()].concat();
    check(bytes, &["a jpg 1"], None);
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn real_odd_tars_end_as_samples_rejects_or_a_remark() {
    let Some(data) = crate::skipped::test_data() else { return };
    let paths: Vec<_> = ["tar", "wds"].iter().flat_map(|folder| files(&data.join(folder))).collect();
    assert!(paths.len() >= 64, "{}", paths.len());
    for path in &paths {
        let bytes = std::fs::read(path).unwrap();
        let (rows, remark) = seen(bytes, &ReaderConfig::default());
        assert!(!rows.is_empty() || remark.is_some(), "{}", path.display());
        println!("{}: {} groups, {}", path.display(), rows.len(), remark.unwrap_or_default());
    }
}

#[test]
fn random_damage_never_panics() {
    let mut seeds = vec![
        [pax("16 path=x/a.JPG\n", b'x'), member("a.jpg", &[9; 600]), member("a.txt", b"t"), END.to_vec()].concat(),
        tar_of(&[("a.jpg", &[1; 900]), ("a.json", b"{\"caption\":\"\\ud800\"}"), ("b.png", &[2; 30])]),
    ];
    if let Some(data) = std::env::var_os("TROMMEL_TEST_DATA").map(PathBuf::from) {
        let small = |path: &PathBuf| std::fs::metadata(path).unwrap().len() < 8000;
        seeds.extend(
            files(&data.join("tar")).iter().filter(|path| small(path)).map(|path| std::fs::read(path).unwrap()),
        );
    }
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..4000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random(6) {
            let at = random(bytes.len());
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        // Half of the headers are given a checksum that fits, so that the damage gets further in.
        if random(2) == 0 {
            for header in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        read(bytes, &ReaderConfig::default());
    }
}
