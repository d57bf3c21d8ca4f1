//! The operator with a card of plain memory: every sample comes out, and as without a card.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use timely::dataflow::operators::capture::Extract;
use timely::dataflow::operators::{Capture, Concatenate, ToStream, vec::Map};
use trommel_core::credit::{Credit, CreditConfig, Permit};
use trommel_core::sample::{Encoded, Event, Sample, SampleId, SampleInfo, Work};
use trommel_core::stop::Stop;
use trommel_dataflow::offload::Pool;

use super::super::probe::PICTURES;
use super::super::{CardDecoder, CardError, Lane, Sampling};
use super::stand_in::{Planes, StandIn};
use super::{ROOM, config};
use crate::operator::Decode;

/// Grey ones for the card, colour that it refuses, a sampling that it does not take, a broken one and no JPEG at all.
fn samples() -> Vec<Sample<Encoded>> {
    // Longer than what is left of it for a card: crops of class folders' pictures follow the size in the shard.
    let commented = [&PICTURES[6][..2], b"\xff\xfe\0\x05abc", &PICTURES[6][2..]].concat();
    let images: [&[u8]; 6] = [PICTURES[0], &commented, PICTURES[2], PICTURES[1], &PICTURES[0][..300], b"no!"];
    let sample = |index: u32| {
        let id = SampleId { ordinal: 0, index };
        let info = Arc::new(SampleInfo { id, key: format!("{index}"), ..SampleInfo::default() });
        let image = Bytes::copy_from_slice(images[index as usize % images.len()]);
        let payload = Encoded { image, extension: "jpg".into() };
        let work = [Work::Judge, Work::JudgeOnly, Work::Replay][index as usize / 6 % 3];
        let encoded_bytes = payload.image.len() as u64;
        Sample { info, pass: 0, work, caption: None, encoded_bytes, permit: Permit::free(), payload }
    };
    (0..60).map(sample).collect()
}

/// What becomes of each sample: views, or why not.
#[allow(clippy::type_complexity)]
fn outcomes(card: Option<CardDecoder>) -> BTreeMap<u32, (Vec<Option<Vec<u8>>>, String)> {
    let captured = timely::example(move |scope| {
        let pool = Pool::new("decode", 2);
        let samples = samples().to_stream(scope).container::<Vec<_>>();
        let (decoded, rejects) = samples.decode_on(&config(), &pool, card.as_ref());
        let decoded = decoded
            .map(|sample| (sample.info.id.index, vec![sample.payload.embed, sample.payload.train], String::new()));
        let rejects = rejects.map(|event| match event {
            Event::Fate(fate) => (fate.info.id.index, Vec::new(), format!("{:?}", fate.reason)),
            other => unreachable!("{other:?}"),
        });
        scope.concatenate([decoded, rejects]).capture()
    });
    let all: Vec<_> = captured.extract().into_iter().flat_map(|(_, items)| items).collect();
    let count = all.len();
    let by_index: BTreeMap<_, _> = all.into_iter().map(|(index, views, why)| (index, (views, why))).collect();
    assert_eq!(count, by_index.len(), "an index came twice");
    by_index
}

fn card(fails_after: impl Fn(usize) -> Option<usize> + Clone + Send + 'static) -> CardDecoder {
    let stop = Stop::new();
    let credit = Credit::new(CreditConfig { budget_bytes: 1 << 20, lanes: 1, quantum_bytes: 1 }, stop.clone());
    let make = move |number| match fails_after(number) {
        Some(0) => Err(CardError::Missing { library: "stand-in", why: "it is asked to fail".into() }),
        after => Ok(Lane::new(StandIn::new(ROOM, Planes::Grey).failing(after))),
    };
    CardDecoder::start(2, ROOM, vec![Sampling::Grey, Sampling::S420], (&credit, &stop), make)
}

#[test]
fn samples_come_out_as_without_a_card() {
    let expected = outcomes(None);
    assert_eq!(expected.len(), 60);
    for fails_after in [None, Some(0), Some(1)] {
        let card = card(move |_| fails_after);
        assert_eq!(outcomes(Some(card.clone())), expected, "{fails_after:?}");
        let counts = card.decoded_by();
        assert_eq!(counts.card + counts.cpu, 60);
        assert_eq!(counts.cpu_because["no_jpeg"], 10);
        assert_eq!(counts.cpu_because["faulty"], 10);
        assert_eq!(counts.cpu_because["sampling"], 10);
        match fails_after {
            None => assert_eq!((counts.card, counts.cpu_because["refused_by_card"]), (20, 10)),
            Some(0) => assert_eq!((counts.card, counts.cpu_because["refused_by_card"]), (0, 30)),
            Some(_) => assert_eq!(counts.card + counts.cpu_because["refused_by_card"], 30),
        }
    }
}

/// Lane 0 fails in its first group, and so does the engine that it gets in place of the first: what comes later is lane 1's, and then nobody's.
#[test]
fn a_lane_that_fails_twice_gets_no_more_pictures() {
    let engines = Arc::new(AtomicUsize::new(0));
    let made = engines.clone();
    let card = card(move |number| {
        made.fetch_add(usize::from(number == 0), Ordering::Relaxed);
        // One group comes out of each.
        (number == 0).then_some(1)
    });
    let expected = outcomes(None);
    let turns = |card: &CardDecoder| [(); 4].map(|()| card.next_lane());
    assert_eq!(turns(&card), [Some(0), Some(1), Some(0), Some(1)]);
    for _ in 0..4 {
        assert_eq!(outcomes(Some(card.clone())), expected);
    }
    assert_eq!((turns(&card), engines.load(Ordering::Relaxed)), ([Some(1); 4], 2));
    card.ended[1].store(true, Ordering::Relaxed);
    assert_eq!(turns(&card), [None; 4]);
    let before = card.decoded_by().card;
    assert_eq!((outcomes(Some(card.clone())), card.decoded_by().card), (expected, before));
}
