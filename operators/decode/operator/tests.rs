#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::sync::Arc;

use timely::dataflow::operators::capture::Event as Captured;
use timely::dataflow::operators::{Capture, ToStream};

use super::super::Limits;
use super::super::sample_views::SMALL_CHANGE_BYTES;
use super::super::view::{EvalView, ResizeMode, TrainView};
use super::*;
use trommel_core::credit::{Credit, CreditConfig, Permit};
use trommel_core::sample::{SampleId, SampleInfo, Status, Work};
use trommel_core::stop::Stop;

fn received<D>(captured: std::sync::mpsc::Receiver<Captured<u64, Vec<D>>>) -> Vec<D> {
    let messages = captured.into_iter().map(|event| match event {
        Captured::Messages(_, data) => data,
        Captured::Progress(_) => Vec::new(),
    });
    messages.flatten().collect()
}

fn png() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(20, 10, |x, y| image::Rgb([x as u8 * 10, y as u8 * 20, 7]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn sample(index: u32, image: Vec<u8>, work: Work, permit: Permit) -> Sample<Encoded> {
    let id = SampleId { ordinal: 3, index };
    let info = Arc::new(SampleInfo { id, key: format!("k{index}"), size: 1, ..SampleInfo::default() });
    let caption = Some(Arc::from("a cat"));
    let encoded_bytes = image.len() as u64;
    let payload = Encoded { image: image.into(), extension: "jpg".into() };
    Sample { info, pass: 1, work, caption, encoded_bytes, permit, payload }
}

fn config() -> DecodeConfig {
    let eval = Some(EvalView { size: 8, mode: ResizeMode::Shortest });
    let train = Some(TrainView { size: 6, scale: (0.9, 1.0), seed: 2, labelled: false });
    DecodeConfig { limits: Limits::default(), eval, train }
}

#[test]
fn each_sample_gives_what_its_work_asks_for() {
    let (decoded, rejects) = timely::example(|scope| {
        let samples = vec![
            sample(0, png(), Work::Judge, Permit::free()),
            sample(1, png(), Work::JudgeOnly, Permit::free()),
            sample(2, png(), Work::Replay, Permit::free()),
            sample(3, b"\x89PNG\r\n\x1a\nnot really".to_vec(), Work::Judge, Permit::free()),
        ];
        let pool = Pool::new("decode", 2);
        let (decoded, rejects) = samples.to_stream(scope).container::<Vec<_>>().decode(&config(), &pool);
        (decoded.capture(), rejects.capture())
    });
    let mut decoded: Vec<Sample<Views>> = received(decoded);
    decoded.sort_by_key(|item| item.info.id);
    let sizes: Vec<_> = decoded
        .iter()
        .map(|d| (d.payload.embed.as_ref().map(Vec::len), d.payload.train.as_ref().map(Vec::len)))
        .collect();
    assert_eq!(sizes, [(Some(192), Some(108)), (Some(192), None), (None, Some(108))]);
    assert_eq!(decoded[0].encoded_bytes, png().len() as u64);
    let rejects: Vec<Event> = received(rejects);
    let [Event::Fate(fate)] = &rejects[..] else { panic!("{rejects:?}") };
    assert_eq!((fate.info.id.index, fate.status), (3, Status::Rejected));
    assert!(matches!(fate.reason.as_ref().unwrap().code.as_str(), "image_decode" | "image_truncated"));
}

#[test]
fn the_permit_shrinks_to_what_is_held() {
    let credit = Credit::new(CreditConfig { budget_bytes: 1 << 20, lanes: 1, quantum_bytes: 1 << 16 }, Stop::new());
    let permit = credit.acquire(0, 100_000).unwrap();
    let decoded = decode_sample(sample(0, png(), Work::Judge, permit), &config()).unwrap();
    assert_eq!(decoded.permit.bytes(), 192 + 108 + 5 + SMALL_CHANGE_BYTES);
    assert_eq!(config().view_bytes(Work::Judge), 192 + 108 + SMALL_CHANGE_BYTES);
    let permit = credit.acquire(0, 100_000).unwrap();
    assert!(decode_sample(sample(1, vec![1, 2, 3], Work::Judge, permit), &config()).is_err());
    drop(decoded);
    assert_eq!(credit.gauge().used_bytes, 0);
}

#[test]
fn the_configuration_reads_from_json_and_refuses_unknown_fields() {
    let text = r#"{"limits":{"load_truncated":true},"eval":{"size":240,"mode":"squash"},"train":{"size":224}}"#;
    let config: DecodeConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.train.unwrap().scale, (0.9, 1.0));
    assert_eq!(config.limits.max_pixels, 89_478_485);
    assert!(serde_json::from_str::<DecodeConfig>(r#"{"limits":{"max_pixel":3}}"#).is_err());
}
