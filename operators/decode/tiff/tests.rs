//! Hostile files; what Pillow makes of whole ones is compared in `peers.rs`.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use tiff::encoder::{Compression, TiffEncoder, colortype};

use super::*;

fn decode(bytes: &[u8], limits: &Limits) -> Result<Rgb8, DecodeError> {
    super::decode(bytes, limits, &mut None)
}

fn small() -> Limits {
    Limits { max_pixels: 1 << 20, max_scratch_bytes: 64 << 20, ..Limits::default() }
}

/// 17 x 9 pixels in strips of two rows, LZW.
fn written() -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut out).unwrap().with_compression(Compression::Lzw);
    let mut image = encoder.new_image::<colortype::RGB8>(17, 9).unwrap();
    image.rows_per_strip(2).unwrap();
    let pixels: Vec<u8> = (0..17 * 9 * 3).map(|at| (at * 7) as u8).collect();
    image.write_data(&pixels).unwrap();
    out.into_inner()
}

/// A classic file of these short and long tags (longs have more than 16 bits, or are offsets), its samples at byte 4,096.
fn by_hand(tags: &[(u16, &[u32])], samples: &[u8]) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend((tags.len() as u16).to_le_bytes());
    let mut beside = Vec::new();
    let start = 8 + 2 + 12 * tags.len() + 4;
    for (tag, values) in tags {
        file.extend([tag.to_le_bytes(), 4u16.to_le_bytes()].concat());
        file.extend((values.len() as u32).to_le_bytes());
        let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        if let [only] = values {
            file.extend(only.to_le_bytes());
        } else {
            file.extend(((start + beside.len()) as u32).to_le_bytes());
            beside.extend(packed);
        }
    }
    file.extend([0; 4]);
    file.extend(beside);
    file.resize(4096, 0);
    file.extend(samples);
    file
}

#[test]
fn a_file_written_by_others_is_read() {
    let picture = decode(&written(), &small()).unwrap();
    assert_eq!((picture.width, picture.height, picture.pixels[100]), (17, 9, (100u32 * 7) as u8));
}

/// Every byte of the file changed, and every length of it: an error or a picture, no panic.
#[test]
fn changed_and_cut_files_end_in_an_error_or_a_picture() {
    let whole = written();
    for at in 0..whole.len() {
        for value in [0, 1, 3, 5, 6, 7, 255, whole[at] ^ 0x80] {
            let mut changed = whole.clone();
            changed[at] = value;
            let outcome = crate::decode_rgb(&changed, &small());
            assert!(!outcome.is_err_and(|error| error.to_string().contains("panicked")), "{at} {value}");
        }
        assert!(decode(&whole[..at], &small()).is_err(), "{at} of {} bytes", whole.len());
    }
}

#[test]
fn sizes_inside_a_file_are_held_to_its_own() {
    // A JPEG whose frame says 60,000 x 60,000 pixels inside a picture of 8 x 8.
    let frame = [0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0xea, 0x60, 0xea, 0x60, 1, 1, 0x11, 0];
    let count = frame.len() as u32;
    let jpeg = by_hand(
        &[
            (256, &[8]),
            (257, &[8]),
            (258, &[8]),
            (259, &[7]),
            (262, &[1]),
            (273, &[4096]),
            (277, &[1]),
            (279, &[count]),
        ],
        &frame,
    );
    let error = decode(&jpeg, &small()).unwrap_err().to_string();
    assert!(error.contains("a JPEG of 60000 x 60000 pixels inside a picture of 8 x 8"), "{error}");
    // Tiles of 4 x 10^9 columns.
    let tiles = by_hand(
        &[
            (256, &[8]),
            (257, &[8]),
            (258, &[8]),
            (259, &[1]),
            (262, &[1]),
            (277, &[1]),
            (317, &[3]),
            (322, &[4_000_000_000]),
            (323, &[16]),
            (324, &[4096]),
            (325, &[64]),
        ],
        &[0; 64],
    );
    let error = decode(&tiles, &small()).unwrap_err().to_string();
    assert!(error.contains("tiles that are much wider than the picture"), "{error}");
}

#[test]
fn what_is_not_read_is_named() {
    for (compression, meaning, bits, what) in [
        (1, 8, &[8, 8, 8][..], "CIE L*a*b*"),
        (1, 1, &[12], "1 samples of 12 bits"),
        (5, 6, &[8, 8, 8], "YCbCr with fewer colour samples than pixels"),
        (7, 1, &[8, 8], "a JPEG of two bands"),
        (34925, 1, &[8], "ompression method"),
    ] {
        let file = by_hand(
            &[
                (256, &[4]),
                (257, &[4]),
                (258, bits),
                (259, &[compression]),
                (262, &[meaning]),
                (273, &[4096]),
                (277, &[bits.len() as u32]),
                (279, &[48]),
            ],
            &[0; 48],
        );
        let error = decode(&file, &small()).unwrap_err();
        assert!(error.code() == "image_unsupported" && error.to_string().contains(what), "{error}");
    }
}
