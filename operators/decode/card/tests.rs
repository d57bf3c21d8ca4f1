//! The card's code on plain memory: the kernels compiled as C++, planes from libjpeg-turbo's C code, and Pillow as the reference.
#![allow(clippy::unwrap_used)]

mod graph;
mod mixed_sizes;
mod pillow;
mod stand_in;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use trommel_core::sample::Work;

use self::stand_in::{Planes, StandIn, is_whole};
use super::lane::Lane;
use super::layout::Room;
use super::plan::{OnCpu, Prepared, Sampling};
use super::probe::{PICTURES, compare};
use super::{Planned, lanes_within, planned};
use crate::sample_views::{DecodeConfig, Of, views};
use crate::view::{EvalView, ResizeMode, TrainView};

const ANY: Of<'static> = Of { work: Work::Judge, key: "a", pass: 0, encoded_bytes: 9 };

const ROOM: Room = Room { upload: 4 << 20, arena: 64 << 20, download: 4 << 20 };

fn config() -> DecodeConfig {
    let train = TrainView { size: 24, scale: (0.5, 1.0), seed: 9, labelled: true };
    DecodeConfig {
        eval: Some(EvalView { size: 32, mode: ResizeMode::Shortest }),
        train: Some(train),
        ..Default::default()
    }
}

fn prepare(image: &[u8]) -> Result<Prepared, OnCpu> {
    Prepared::new(&Bytes::copy_from_slice(image), &config(), ANY)
}

fn refusal(image: &[u8]) -> Option<OnCpu> {
    prepare(image).err()
}

/// Where a marker of this code stands, among the segments before the scan.
fn marker(image: &[u8], code: u8) -> usize {
    let mut at = 2;
    while image[at + 1] != code {
        at += 2 + usize::from(u16::from_be_bytes([image[at + 2], image[at + 3]]));
    }
    at
}

#[test]
fn every_sampling_has_its_pictures() {
    for sampling in Sampling::ALL {
        let of = |image: &&&[u8]| prepare(image).unwrap().sampling() == sampling;
        assert!(PICTURES.iter().filter(of).count() >= 2, "{}", sampling.name());
    }
}

#[test]
fn what_decoders_may_read_in_different_ways_is_the_cpus() {
    let plain = PICTURES[6];
    assert_eq!(refusal(plain), None);
    assert_eq!(refusal(b"\x89PNG\r\n\x1a\n"), Some(OnCpu::Kind));
    assert_eq!(refusal(&plain[..plain.len() - 2]), Some(OnCpu::Faulty), "no end marker");
    assert_eq!(refusal(&plain[..plain.len() / 2]), Some(OnCpu::Faulty), "half of the scan");
    let frame = marker(plain, 0xc0);
    let with = |at: usize, byte: u8| {
        let mut bytes = plain.to_vec();
        bytes[at] = byte;
        bytes
    };
    let mut progressive = with(frame + 1, 0xc2);
    // Its first scan has the first coefficient alone.
    progressive[marker(plain, 0xda) + 12] = 0;
    assert_eq!(refusal(&progressive), Some(OnCpu::Coding), "progressive");
    assert_eq!(refusal(&with(frame + 1, 0xc1)), Some(OnCpu::Coding), "extended");
    assert_eq!(refusal(&with(frame + 1, 0xc9)), Some(OnCpu::Coding), "arithmetic");
    assert_eq!(refusal(&with(frame + 4, 12)), Some(OnCpu::Faulty), "12 bits");
    assert_eq!(refusal(&with(frame + 11, 0x42)), Some(OnCpu::Sampling), "4:1:0");
    assert_eq!(refusal(&with(frame + 14, 0x12)), Some(OnCpu::Sampling), "chroma of two kinds");
    let adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0";
    let bare = [&plain[..2], &plain[marker(plain, 0xdb)..]].concat();
    assert_eq!(refusal(&bare), None);
    assert_eq!(refusal(&[&bare[..2], adobe, &bare[2..]].concat()), Some(OnCpu::Colour), "stored as RGB");
}

/// A bit flipped in a scan: what still passes for sound has nothing that libjpeg would warn of, since there nobody follows rules of his own.
#[test]
fn a_scan_that_libjpeg_would_warn_of_is_the_cpus() {
    let (mut sound, mut damaged) = (0, 0);
    for image in PICTURES.iter().map(|image| image.to_vec()) {
        assert!(prepare(&image).is_ok() && is_whole(&image));
        let scan = marker(&image, 0xda) + 14;
        for at in (scan..image.len() - 2).step_by(3) {
            for bit in [0, 5] {
                let mut flipped = image.clone();
                flipped[at] ^= 1 << bit;
                match prepare(&flipped) {
                    Ok(_) => {
                        assert!(is_whole(&flipped), "byte {at}, bit {bit}");
                        sound += 1;
                    }
                    Err(_) => damaged += 1,
                }
            }
        }
    }
    eprintln!("{damaged} flipped bits seen, {sound} that gave another picture as sound as the first");
    assert!(damaged > 1000 && sound > 1000, "{damaged} and {sound}");
}

#[test]
fn the_comparison_at_start_sees_what_differs() {
    let ask = |planes| {
        let mut lane = Lane::new(StandIn::new(ROOM, planes));
        Sampling::ALL.map(|sampling| compare(&mut lane, sampling))
    };
    assert_eq!(ask(Planes::Turbo), [const { Ok(()) }; 6]);
    assert!(ask(Planes::Spoilt).iter().all(|found| found.as_ref().is_err_and(|why| why.contains("differ"))));
    let grey_alone = ask(Planes::Grey);
    assert_eq!(grey_alone.each_ref().map(Result::is_ok), Sampling::ALL.map(|sampling| sampling == Sampling::Grey));
}

/// What bears on no pixel does not reach a card's decoder: neither application data nor what follows the end.
#[test]
fn a_cards_decoder_sees_the_picture_alone() {
    let plain = PICTURES[6];
    let bare = prepare(plain).unwrap().stream().clone();
    let exif = [b"\xff\xe1\0\x20Exif\0\0".as_slice(), &[0x2a; 24]].concat();
    let odd = [&plain[..2], &exif, b"\xff\xfe\0\x05abc", &plain[2..], b"and more"].concat();
    assert_eq!(prepare(&odd).unwrap().stream(), &bare);
    assert_eq!(views(&bare, &config(), ANY), views(&odd, &config(), ANY));
}

#[test]
fn lanes_are_as_many_as_have_room() {
    let Planned { card_bytes, host_bytes } = planned(&config(), 1);
    let within = |card: u64, host: u64| {
        lanes_within(&config(), Planned { card_bytes: card * card_bytes, host_bytes: host * host_bytes })
    };
    assert_eq!((within(50, 50), within(4, 50), within(50, 5)), (6, 4, 5));
    assert_eq!((within(0, 50), within(50, 1)), (2, 2), "never fewer than work together");
    assert_eq!(planned(&config(), 3), Planned { card_bytes: 3 * card_bytes, host_bytes: 3 * host_bytes });
}

fn grey_pictures() -> Vec<Prepared> {
    [PICTURES[0], PICTURES[1], PICTURES[0], PICTURES[1], PICTURES[1]].map(|image| prepare(image).unwrap()).into()
}

#[test]
fn groups_that_do_not_fit_are_done_in_parts() {
    let pictures = grey_pictures();
    let refs: Vec<&Prepared> = pictures.iter().collect();
    let one = pictures.iter().map(Room::of).reduce(|a, b| Room {
        upload: a.upload.max(b.upload),
        arena: a.arena.max(b.arena),
        download: a.download.max(b.download),
    });
    let one = one.unwrap();
    let all = Lane::new(StandIn::new(ROOM, Planes::Grey)).views(&refs);
    assert!(all.iter().all(Option::is_some));
    for (room, groups) in [(one, 5), (one.with(one), 3), (ROOM, 1)] {
        let stand_in = StandIn::new(room, Planes::Grey);
        let decodes = stand_in.decodes.clone();
        assert_eq!(Lane::new(stand_in).views(&refs), all);
        assert!(decodes.load(std::sync::atomic::Ordering::Relaxed) <= groups, "{room:?}");
    }
    for short in [
        Room { arena: one.arena - 1, ..one },
        Room { upload: one.upload - 1, ..one },
        Room { download: one.download - 1, ..one },
    ] {
        let some = Lane::new(StandIn::new(short, Planes::Grey)).views(&refs);
        assert!(some.iter().any(Option::is_none), "{short:?}: more than it holds");
        assert!(some.iter().zip(&all).all(|(some, all)| some.is_none() || some == all));
    }
}

#[test]
fn an_engine_that_fails_leaves_its_pictures_to_the_cpu() {
    let pictures = grey_pictures();
    let refs: Vec<&Prepared> = pictures.iter().collect();
    for after in 0..3 {
        let room = Room::of(&pictures[0]).with(Room::of(&pictures[1]));
        let stand_in = StandIn::new(room, Planes::Grey).failing(Some(after));
        let views = Lane::new(stand_in).views(&refs);
        assert_eq!(views.len(), 5);
        let made = views.iter().take_while(|views| views.is_some()).count();
        assert!(views[made..].iter().all(Option::is_none), "asked again after it failed");
        assert!((after == 0) == (made == 0), "{after}: {made}");
    }
}

/// On a machine with a card: `TROMMEL_CARD_PICTURES=FOLDER cargo test -p trommel-decode -- --ignored --nocapture on_a_card`.
#[test]
#[ignore = "needs a card"]
fn on_a_card() {
    let folder = std::env::var_os("TROMMEL_CARD_PICTURES").unwrap();
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let picture = |path: &std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
    };
    let pictures: Vec<_> = paths.iter().map(picture).collect();
    let view = EvalView { size: 224, mode: ResizeMode::Shortest };
    let config = DecodeConfig { eval: Some(view), ..DecodeConfig::default() };
    let report = super::compare::bench(Some(0), &config, &pictures, 1.0).unwrap();
    eprintln!("{}", serde_json::to_string(&report).unwrap());
    assert!(report.views.equal == report.views.pictures && report.rgb.iter().all(|of| of.equal == of.pictures));
}

/// The text that NVRTC gets compiles, where NVRTC is: on the machine, or beside the peers' torch.
#[test]
fn the_kernels_compile_for_a_card() {
    let peers = std::env::var_os("TROMMEL_PEERS").map(PathBuf::from);
    let home = peers.as_deref().and_then(|python| Some(python.parent()?.parent()?.join("lib")));
    let beside = |home: &Path, name: &str| -> Option<PathBuf> {
        let pattern = home.join("python3*/site-packages/nvidia/*/lib").join(name);
        glob::glob(&pattern.display().to_string()).unwrap().next()?.ok()
    };
    // Once they are opened, they are found by their names alone.
    let names = ["libnvrtc-builtins.so.*", "libnvrtc.so.*"];
    let found = home.iter().flat_map(|home| names.iter().filter_map(|name| beside(home, name)));
    // SAFETY: their constructors are made to be run when they are opened.
    let _opened: Vec<_> = found.map(|path| unsafe { libloading::Library::new(path) }.unwrap()).collect();
    // SAFETY: its constructors are made to be run when it is opened.
    if unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        let cubin = super::cuda::compile(9, 0).unwrap();
        assert!(cubin.starts_with(b"\x7fELF"));
    } else {
        crate::skipped::skipped("no NVRTC");
    }
}
