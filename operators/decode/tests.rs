#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::skipped::test_data as data;
use super::view::{EvalView, ResizeMode, eval_view};
use super::*;

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// A NumPy file of little-endian f32: its values, the shape left out.
fn read_npy_f32(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let (start, length) = match bytes[6] {
        1 => (10, usize::from(u16::from_le_bytes([bytes[8], bytes[9]]))),
        _ => (12, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize),
    };
    assert!(String::from_utf8_lossy(&bytes[start..start + length]).contains("'<f4'"));
    bytes[start + length..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The pixels behind CLIP's normalised f32\[3, 224, 224\], as u8\[224, 224, 3\].
fn pixels_of(normalised: &[f32]) -> Vec<u8> {
    const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
    const STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
    let plane = normalised.len() / 3;
    let value = |pixel: usize, c: usize| (f64::from(normalised[c * plane + pixel]) * STD[c] + MEAN[c]) * 255.0;
    (0..plane).flat_map(|pixel| [0, 1, 2].map(|c| value(pixel, c).round() as u8)).collect()
}

/// The reference transform's pixels, made with CLIP's own preprocessing: nothing apart; with the earlier decoder, mean below 0.5 and
/// maximum at most 4 apart, and that it is another one shows.
#[test]
fn views_equal_the_reference_transform() {
    let Some(data) = data() else { return };
    let pictures = files_below(&data.join("clip_ref/test_images"));
    assert_eq!(pictures.len(), 7);
    for path in pictures {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let expected = pixels_of(&read_npy_f32(&data.join(format!("clip_ref/npy/{name}.pre224.npy"))));
        let bytes = std::fs::read(&path).unwrap();
        for decoder in [Decoder::LibjpegTurbo, Decoder::Zune] {
            let picture = decode_rgb(&bytes, &Limits { decoder, ..Limits::default() }).unwrap();
            let view = eval_view(&picture, &EvalView { size: 224, mode: ResizeMode::Shortest }).unwrap();
            assert_eq!(view.len(), expected.len());
            let apart: Vec<u32> = view.iter().zip(&expected).map(|(&a, &b)| u32::from(a.abs_diff(b))).collect();
            let (mean, most) =
                (f64::from(apart.iter().sum::<u32>()) / apart.len() as f64, *apart.iter().max().unwrap());
            eprintln!("{name}, {decoder:?}: mean {mean:.4}, maximum {most}");
            let fine = match decoder {
                Decoder::LibjpegTurbo => most == 0,
                Decoder::Zune => mean < 0.5 && (1..=4).contains(&most),
            };
            assert!(fine, "{name}, {decoder:?}: mean {mean}, maximum {most}");
        }
    }
}

#[test]
fn odd_pictures_pass_or_are_refused_with_a_reason() {
    let Some(data) = data() else { return };
    let files = files_below(&data.join("decode"));
    assert!(files.len() >= 572);
    let (mut good, mut panics) = (0, Vec::new());
    for path in &files {
        match decode_rgb(&std::fs::read(path).unwrap(), &Limits::default()) {
            Ok(picture) => {
                good += 1;
                assert_eq!(eval_view(&picture, &EvalView { size: 8, mode: ResizeMode::Shortest }).unwrap().len(), 192);
            }
            Err(error) if error.to_string().contains("panicked") => panics.push(path),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(good > 500, "{good}");
    assert!(panics.is_empty(), "{panics:?}");
}

/// Writes what was decoded for `golden/compare.py`: run with `--ignored` and `TROMMEL_PEER_OUT` set to a folder.
#[test]
#[ignore = "feeds the comparison with Pillow"]
fn dump_for_peers() {
    let (Some(data), Some(out)) = (data(), std::env::var_os("TROMMEL_PEER_OUT").map(PathBuf::from)) else { return };
    let root = std::env::var_os("TROMMEL_PEER_IN").map_or(data.join("decode"), PathBuf::from);
    std::fs::create_dir_all(&out).unwrap();
    let mut index = String::new();
    for (i, path) in files_below(&root).iter().enumerate() {
        let name = path.strip_prefix(&root).unwrap().display();
        match decode_rgb(&std::fs::read(path).unwrap(), &Limits::default()) {
            Ok(picture) => {
                std::fs::write(out.join(format!("{i}.rgb")), &picture.pixels).unwrap();
                index += &format!("{name}\tok\t{}\t{}\t{i}\n", picture.width, picture.height);
            }
            Err(error) => index += &format!("{name}\terr\t{}: {error}\t\t{i}\n", error.code()),
        }
    }
    std::fs::write(out.join("index.tsv"), index).unwrap();
}

/// A JPEG's markers without pixels: enough for what is decided on headers.
fn jpeg_header(width: u16, height: u16, components: u8) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xc0, 0, 8 + 3 * components, 8];
    bytes.extend(height.to_be_bytes());
    bytes.extend(width.to_be_bytes());
    bytes.push(components);
    (1..=components).for_each(|id| bytes.extend([id, 0x11, 0]));
    bytes.extend([0xff, 0xda, 0, 6 + 2 * components, components]);
    (1..=components).for_each(|id| bytes.extend([id, 0]));
    bytes.extend([0, 63, 0, 0xff, 0xd9]);
    bytes
}

#[test]
fn limits_come_before_memory() {
    let code = |bytes: &[u8], limits: &Limits| decode_rgb(bytes, limits).unwrap_err().code();
    let limits = Limits::default();
    assert_eq!(code(&jpeg_header(65_535, 65_535, 3), &limits), "too_many_pixels");
    assert_eq!(code(&jpeg_header(0, 10, 3), &limits), "image_decode");
    assert_eq!(code(&jpeg_header(10, 10, 2), &limits), "image_unsupported");
    assert_eq!(code(&jpeg_header(300, 10, 3), &Limits { max_side: 299, ..Limits::default() }), "too_many_pixels");
    assert_eq!(
        code(&jpeg_header(300, 300, 3), &Limits { max_scratch_bytes: 10_000, ..Limits::default() }),
        "too_many_pixels"
    );
    assert_eq!(code(&[0; 100], &Limits { max_bytes: 99, ..Limits::default() }), "too_many_bytes");
    assert_eq!(code(b"", &limits), "image_unsupported");
    assert!(decode_rgb(b"", &limits).unwrap_err().to_string().ends_with("(begins with nothing: it is empty)"));
    assert_eq!(code(b"BMW, a car by the sea", &limits), "image_unsupported");
    let bmp =
        [b"BM".as_slice(), &[0; 8], &[54, 0, 0, 0, 40, 0, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 1, 0, 24, 0], &[0; 24]];
    assert_eq!(code(&bmp.concat(), &limits), "too_many_pixels");
    assert_eq!(code(b"P6 65535 65535 255\n", &limits), "too_many_pixels");
    assert_eq!(code(&tiff_header(65_535, 65_535), &limits), "too_many_pixels");
    assert_eq!(code(&tiff_header(300, 10), &Limits { max_side: 299, ..Limits::default() }), "too_many_pixels");
    assert_eq!(
        code(b"P6 300 300 255\n", &Limits { max_scratch_bytes: 10_000, ..Limits::default() }),
        "too_many_pixels"
    );
    assert_eq!(code(b"P6 3 3 255\nshort", &limits), "image_truncated");
}

/// A grey TIFF's directory without pixels.
fn tiff_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0\x09\0".to_vec();
    let strip = [(273u16, 8u32), (277, 1), (278, height), (279, width * 2)];
    for (tag, value) in [(256, width), (257, height), (258, 8), (259, 1), (262, 1)].into_iter().chain(strip) {
        bytes.extend(tag.to_le_bytes());
        bytes.extend([4, 0, 1, 0, 0, 0]);
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

/// Each scan goes over all blocks and may take eight bytes of the file.
#[test]
fn a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded() {
    let of_scans = |count: usize| {
        let frame = b"\xff\xd8\xff\xc2\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0";
        let scan = b"\xff\xda\0\x08\x01\x01\0\0\0\0";
        [&frame[..], &scan.repeat(count), b"\xff\xd9"].concat()
    };
    let limits = Limits { max_pixels: 64, ..Limits::default() };
    let error = decode_rgb(&of_scans(101), &limits).unwrap_err();
    assert_eq!(error.to_string(), "101 scans, above the limit of 100 for 64 pixels");
    assert_eq!(error.code(), "too_many_pixels");
    assert_eq!(decode_rgb(&of_scans(100), &limits).unwrap_err().code(), "image_decode");
}

#[test]
fn a_jpeg_cut_anywhere_is_refused_unless_asked_for() {
    let Some(data) = data() else { return };
    let bytes = std::fs::read(data.join("clip_ref/test_images/123_456.jpg")).unwrap();
    let whole = decode_rgb(&bytes, &Limits::default()).unwrap();
    for cut in (1..bytes.len()).step_by(97) {
        let error = decode_rgb(&bytes[..bytes.len() - cut], &Limits::default()).unwrap_err();
        assert!(matches!(error.code(), "image_truncated" | "image_unsupported"), "{cut}: {error}");
    }
    let lenient = Limits { load_truncated: true, ..Limits::default() };
    assert_eq!(decode_rgb(&bytes, &lenient).unwrap(), whole);
    let half = decode_rgb(&bytes[..bytes.len() / 2], &lenient).unwrap();
    assert_eq!(half.pixels[..whole.pixels.len() / 8], whole.pixels[..whole.pixels.len() / 8]);
    assert_eq!(half.pixels.len(), whole.pixels.len());
}

#[test]
fn damaged_bytes_never_panic() {
    let Some(data) = data() else { return };
    let pictures = files_below(&data.join("decode/wuffs"));
    let mut state = 1u64;
    let mut next = |most: usize| {
        state = trommel_core::hash::Hash64::new("damage").word(state).finish();
        (state % most as u64) as usize
    };
    let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
    for path in pictures.iter().filter(|path| path.metadata().unwrap().len() < 40_000) {
        let bytes = std::fs::read(path).unwrap();
        for _ in 0..6 {
            let mut broken = bytes.clone();
            for _ in 0..4 {
                let at = next(broken.len());
                broken[at] = next(256) as u8;
            }
            broken.truncate(broken.len() - next(broken.len()) / 3);
            let _ = decode_rgb(&broken, &limits);
        }
    }
}
