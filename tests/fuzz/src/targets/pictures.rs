//! Pictures, a target for each kind.

use trommel_decode::view::{EvalView, ResizeMode, TrainView, eval_view, train_view, view_bytes};
use trommel_decode::{DecodeError, Limits as DecodeLimits, Rgb8, decode_rgb};

use crate::{Limits, Outcome, Target, as_it_is, stored};

/// What decoding one picture may take.
const SCRATCH_BYTES: u64 = 24 << 20;

pub(super) fn targets() -> Vec<Target> {
    // Beside the pixels: the decoder's tables and buffers.
    let limits = Limits { input_bytes: 16 << 10, heap_bytes: SCRATCH_BYTES + (1 << 20), ..Limits::default() };
    let picture = |name, about, seeds, words| Target { name, about, seeds, words, mend: as_it_is, limits, run: decode };
    let views = Target {
        name: "views",
        about: "views of a picture of any size",
        seeds: || {
            vec![vec![16, 0, 12, 0, 7, 0, 1, 2, 3], vec![255, 255, 1, 0, 224, 0, 9], vec![1, 0, 255, 255, 224, 1, 9]]
        },
        limits: Limits { input_bytes: 64, heap_bytes: 16 << 20, ..limits },
        run: view,
        ..picture("", "", Vec::new, &[])
    };
    vec![
        views,
        picture("jpeg", "a JPEG, as a whole and cut off", || stored("jpeg"), JPEG),
        Target { mend: png_checksums, ..picture("png", "a PNG", || stored("png"), PNG) },
        picture(
            "gif",
            "a GIF",
            || stored("gif"),
            &[b"GIF87a", b"\x21\xf9\x04", b"\x2c", b"\x3b", b"\x21\xff\x0bNETSCAPE2.0"],
        ),
        picture(
            "tiff",
            "a TIFF",
            || stored("tiff"),
            &[b"II*\0", b"MM\0*", b"II+\0", b"\x03\x01\x03\0", b"\x44\x01", b"\x1a\x01"],
        ),
        Target { mend: riff_size, ..picture("webp", "a WebP", || stored("webp"), WEBP) },
        picture(
            "bmp",
            "a BMP",
            || stored("bmp"),
            &[b"BM", b"\x28\0\0\0", b"\x7c\0\0\0", b"\x01\0\x08\0", b"\x01\0\x20\0"],
        ),
        picture(
            "netpbm",
            "a PPM, PGM or PBM",
            || stored("netpbm"),
            &[b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n", b"#", b"65535"],
        ),
    ]
}

const JPEG: &[&[u8]] = &[
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda",
    b"\xff\xdb",
    b"\xff\xc0",
    b"\xff\xc1",
    b"\xff\xc2",
    b"\xff\xc4",
    b"\xff\xc9",
    b"\xff\xdd\0\x04\0\x01",
    b"\xff\xd0",
    b"\xff\xd7",
    b"\xff\0",
    b"\xff\xff",
    b"\xff\xfe",
    b"\xff\xe0",
    b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x02",
    b"\xff\xdc\0\x04\0\x08",
    b"\x01\x11\0",
    b"\x02\x22\x01",
    b"\x01\x44\0",
    b"JFIF\0",
    b"AVI1\0",
];

const PNG: &[&[u8]] = &[
    b"\0\0\0\x0dIHDR",
    b"IDAT",
    b"\0\0\0\0IEND\xae\x42\x60\x82",
    b"PLTE",
    b"tRNS",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"iCCP",
    b"zTXt",
    b"\x78\x9c",
    b"gAMA",
    b"sBIT",
    b"eXIf",
];

const WEBP: &[&[u8]] = &[
    b"RIFF",
    b"WEBP",
    b"VP8 ",
    b"VP8L",
    b"VP8X",
    b"ANIM",
    b"ANMF",
    b"ALPH",
    b"ICCP",
    b"EXIF",
    b"\x9d\x01\x2a",
    b"\x2f",
];

/// Gives each chunk the checksum that it should have.
fn png_checksums(input: &mut Vec<u8>) {
    let mut at = 8;
    while let Some(&head) = input.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let end = at + 8 + u32::from_be_bytes(head) as usize;
        let Some(body) = input.get(at + 4..end) else { return };
        let mut crc = flate2::Crc::new();
        crc.update(body);
        let Some(sum) = input.get_mut(end..end + 4) else { return };
        sum.copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

/// Gives the file the length that it has.
fn riff_size(input: &mut Vec<u8>) {
    let length = (input.len() as u32).saturating_sub(8);
    if let Some(field) = input.get_mut(4..8) {
        field.copy_from_slice(&length.to_le_bytes());
    }
}

fn decode(input: &[u8]) -> Outcome {
    let limits = DecodeLimits { max_pixels: 1 << 20, max_scratch_bytes: SCRATCH_BYTES, ..DecodeLimits::default() };
    let whole = decode_rgb(input, &limits);
    let said = match &whole {
        Ok(picture) if u64::from(picture.width) * u64::from(picture.height) > limits.max_pixels => {
            return Err(format!("{} x {} pixels", picture.width, picture.height));
        }
        Ok(picture) => format!("{} wide", picture.width.ilog2()),
        Err(DecodeError::UnknownKind { .. }) => "no picture".into(),
        Err(error) => error.to_string().chars().take(120).collect(),
    };
    // One picture is held at a time.
    let whole = whole.map(|picture| sum(&picture.pixels));
    let cut = decode_rgb(input, &DecodeLimits { load_truncated: true, ..limits }).map(|picture| sum(&picture.pixels));
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) if whole != cut => {
            Err("decoded again, and where it might be cut off: another picture".into())
        }
        (Ok(_), Err(error)) => Err(format!("refused where it might be cut off, and only there: {error}")),
        _ => Ok(format!("{said} {}", cut.is_ok())),
    }
}

/// Sides and the view's size, two bytes each; what follows is the picture, again and again.
fn view(input: &[u8]) -> Outcome {
    let number = |at: usize| input.get(at..at + 2).map_or(1, |pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])));
    let (width, height, size) = (number(0), number(2), number(4) % 128);
    let pixels = u64::from(width) * u64::from(height);
    if pixels > 1 << 16 {
        return Ok("large".into());
    }
    let colours = input.get(6..).filter(|colours| !colours.is_empty()).unwrap_or(&[77]);
    let mut filled = colours.repeat(pixels as usize * 3 / colours.len() + 1);
    filled.truncate(pixels as usize * 3);
    let picture = Rgb8 { width, height, pixels: filled };
    let mut said = String::new();
    let plain = colours.iter().all(|colour| *colour == colours[0]);
    let evaluated =
        [ResizeMode::Shortest, ResizeMode::Squash].map(|mode| eval_view(&picture, &EvalView { size, mode }));
    let trained = train_view(&picture, &TrainView { size, scale: (0.9, 1.0), seed: 3, labelled: false }, 5, 1);
    for made in evaluated.into_iter().chain([trained]) {
        match made {
            Ok(made) if made.len() != view_bytes(size) as usize => return Err(format!("{} bytes", made.len())),
            // Of one colour, all views have it.
            Ok(made) if plain && made.iter().any(|colour| *colour != colours[0]) => return Err("another colour".into()),
            Ok(_) => said += "made ",
            Err(error) => said += &error.to_string(),
        }
    }
    Ok(said)
}

/// A checksum of pixels.
fn sum(pixels: &[u8]) -> (usize, u32) {
    let mut crc = flate2::Crc::new();
    crc.update(pixels);
    (pixels.len(), crc.sum())
}
