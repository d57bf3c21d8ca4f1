//! Batch slots and instances: views never mix, bits are those of one batch after the other, in every form of the tower.

use std::panic::{AssertUnwindSafe, catch_unwind};

use half::f16;
use tch::{Device, Kind, Tensor};
use timely::dataflow::operators::{Capture, ToStream, capture::Extract};

use super::encoder::{EncoderConfig, EncoderPrecision, Form, ImageEncoder, Shape};
use super::encoder_tests::config;
use super::golden_inputs::views;
use super::instances::Instances;
use super::load::load;
use super::slots::{Slots, canonical};
use super::tower::TowerEncoder;
use trommel_core::credit::{Credit, CreditConfig};
use trommel_core::hash::mix;
use trommel_core::sample::Reason;
use trommel_core::stop::Stop;
use trommel_dataflow::batch::{BatchConfig, BatchOffload, BatchService, Batched};
use trommel_decode::view_buffers::{self, SetAside};
use trommel_model::ModelError;
use trommel_model::clip::ClipConfig;
use trommel_model::error::Op;

/// Its features are the view itself, so that every byte out of place is seen.
#[derive(Clone)]
struct Mirror(Shape);

impl ImageEncoder for Mirror {
    fn shape(&self) -> Shape {
        self.0
    }

    fn forward(&mut self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        let rows = [self.0.batch as i64, -1];
        pixels.f_reshape(rows).and_then(|rows| rows.f_to_kind(Kind::Half)).op("mirror", &[pixels])
    }

    fn instance(&self, _: usize) -> Option<Box<dyn ImageEncoder>> {
        Some(Box::new(self.clone()))
    }
}

const SIDE: u32 = 3;
const VIEW: usize = 27;

fn mirror(batch: usize, depth: usize) -> Slots {
    let shape = Shape { batch, size: SIDE, dim: VIEW, device: Device::Cpu, threads: 1 };
    Slots::new(Box::new(Mirror(shape)), depth).unwrap()
}

fn view(number: u64) -> Vec<u8> {
    (0..VIEW as u64).map(|i| (mix(number * VIEW as u64 + i) >> 40) as u8).collect()
}

/// What a batch was copied from serves the next views, where there is memory set aside for that.
#[test]
fn buffers_of_views_come_back() {
    // Of a size that no other test has.
    let (side, views) = (5, 75);
    let shape = Shape { batch: 2, size: side, dim: views, device: Device::Cpu, threads: 1 };
    let mut slots = Slots::new(Box::new(Mirror(shape)), 1).unwrap();
    let mut submit = |value: u8| {
        let view = vec![value; views];
        let place = view.as_ptr();
        slots.submit(vec![view]);
        slots.collect();
        place
    };
    let _room = SetAside::new(1 << 30);
    let place = submit(1);
    let copy = view_buffers::copied(&vec![2; views]);
    assert_eq!((copy.as_ptr(), copy), (place, vec![2; views]));
}

/// Batches of random lengths, sent and received in random turns.
#[test]
fn slots_are_used_again_and_never_mix_views() {
    for depth in 1..=3usize {
        for seed in 0..20u64 {
            let batch = 1 + (mix(seed) % 9) as usize;
            let (mut slots, mut sent, mut received, mut next) = (mirror(batch, depth), Vec::new(), 0, 0u64);
            for turn in 0..200u64 {
                if mix(seed << 20 | turn).is_multiple_of(2) && sent.len() - received < depth {
                    let count = 1 + mix(seed << 21 | turn) as usize % batch;
                    let numbers: Vec<u64> = (next..next + count as u64).collect();
                    next += count as u64;
                    slots.send(&numbers.iter().map(|&number| view(number)).collect::<Vec<_>>()).unwrap();
                    sent.push(numbers);
                } else if received < sent.len() {
                    let features = slots.receive(<[f32]>::to_vec).unwrap().unwrap();
                    let expected = sent[received].iter().flat_map(|&number| view(number)).map(f32::from);
                    assert!(features.into_iter().eq(expected), "{depth} slots of {batch}, seed {seed}, turn {turn}");
                    received += 1;
                }
            }
            assert!(received > 40, "{received}");
        }
    }
}

#[test]
fn what_no_slot_takes_is_refused_and_the_slot_stays_free() {
    let mut slots = mirror(2, 1);
    for wrong in [vec![view(0), vec![0; VIEW - 1]], vec![view(0); 3], vec![Vec::new()]] {
        let error = slots.send(&wrong).unwrap_err().to_string();
        assert!(error.contains("views") && error.contains("27"), "{error}");
    }
    assert!(slots.receive(<[f32]>::to_vec).unwrap().is_none());
    slots.send(&[view(1)]).unwrap();
    assert!(slots.send(&[view(2)]).unwrap_err().to_string().contains("free"));
    assert_eq!(slots.receive(<[f32]>::len).unwrap(), Some(VIEW));
    slots.send(&[view(2)]).unwrap();
}

/// Vectors of `views` from a service, in their order.
fn served(service: BatchService<Vec<u8>, Result<Vec<f16>, Reason>>, views: &[Vec<u8>]) -> Vec<Vec<f16>> {
    let numbered: Vec<_> = views.iter().cloned().enumerate().collect();
    let captured = timely::example(move |scope| {
        let views = numbered.to_stream(scope).container::<Vec<_>>();
        let bits = |vector: Vec<f16>| vector.into_iter().map(f16::to_bits).collect::<Vec<_>>();
        views
            .batch_offload("Embed", &service, |(i, view)| (view, i), move |i, it| (i, bits(it.unwrap().unwrap())))
            .capture()
    });
    let mut vectors: Vec<_> = captured.extract().into_iter().flat_map(|(_, data)| data).collect();
    vectors.sort_by_key(|(i, _)| *i);
    vectors.into_iter().map(|(_, bits)| bits.into_iter().map(f16::from_bits).collect()).collect()
}

#[test]
fn a_service_of_slots_gives_the_bits_of_one_batch_after_the_other() {
    let view_bytes = 3 * 32 * 32;
    let of_shades =
        |shade: u64| views(32).into_iter().map(move |byte| (mix(u64::from(byte) + 256 * shade) >> 56) as u8);
    let views: Vec<Vec<u8>> = (0..15)
        .flat_map(|shade| of_shades(shade).collect::<Vec<_>>())
        .collect::<Vec<_>>()
        .chunks(view_bytes)
        .map(<[u8]>::to_vec)
        .collect();
    let views = &views[..43];
    let stop = Stop::new();
    let credit = Credit::new(CreditConfig { budget_bytes: 1, lanes: 1, quantum_bytes: 1 }, stop.clone());
    let gather = || BatchConfig { batch: 8, ..BatchConfig::named("embed") };
    let plain = BatchService::spawn(gather(), credit.clone(), stop.clone(), move || {
        let mut encoder = load(&config("trommel-tiny-32"))?.encoder;
        Ok::<_, ModelError>(move |views: Vec<Vec<u8>>| {
            let mut pixels = views.concat();
            pixels.resize(8 * view_bytes, 0);
            let features = encoder.encode(&pixels).unwrap();
            features.chunks(encoder.dim()).take(views.len()).map(canonical).collect()
        })
    });
    let expected = served(plain, views);
    assert_eq!(expected.len(), 43);
    for vector in &expected {
        let norm: f64 = vector.iter().map(|x| x.to_f64().powi(2)).sum();
        assert!((norm - 1.0).abs() < 2e-3, "{norm}");
    }
    for depth in 1..=3 {
        let make = move || Slots::new(load(&config("trommel-tiny-32"))?.encoder, depth);
        let service = BatchService::spawn_batched(gather(), credit.clone(), stop.clone(), make);
        assert!(served(service, views) == expected, "{depth} slots");
    }
    for (count, threads) in [(1, 1), (2, 2), (3, 3), (2, 5)] {
        let make = move || {
            let config = EncoderConfig { threads, ..config("trommel-tiny-32") };
            Instances::new(&*load(&config)?.encoder, count)
        };
        let service = BatchService::spawn_batched(gather(), credit.clone(), stop.clone(), make);
        assert!(served(service, views) == expected, "{count} instances on {threads} threads");
    }
}

/// Batches end in any order, and are answered in theirs; one that fails is the one that is told so.
#[test]
fn instances_answer_in_the_order_of_batches() {
    let shape = Shape { batch: 2, size: SIDE, dim: VIEW, device: Device::Cpu, threads: 3 };
    let mut instances = Instances::new(&Mirror(shape), 3).unwrap();
    let vectors = |numbers: &[u64]| {
        let features = numbers.iter().map(|&number| view(number).into_iter().map(f32::from).collect::<Vec<_>>());
        features.map(|feature| canonical(&feature)).collect::<Vec<_>>()
    };
    for round in 0..50u64 {
        let batches: Vec<Vec<u64>> =
            (0..6).map(|at| (0..=at % 2).map(|i| round * 100 + at * 10 + i).collect()).collect();
        let broken = (round % 7) as usize; // in every seventh round none is
        for (at, numbers) in batches.iter().enumerate() {
            let whole = |number: &u64| if at == broken { vec![0; VIEW - 1] } else { view(*number) };
            instances.submit(numbers.iter().map(whole).collect());
        }
        for (at, numbers) in batches.iter().enumerate() {
            let answer = catch_unwind(AssertUnwindSafe(|| instances.collect()));
            assert_eq!(answer.is_err(), at == broken, "round {round}, batch {at}");
            assert!(answer.is_err() || answer.unwrap() == vectors(numbers), "round {round}, batch {at}");
        }
    }
    // Dropped with work left, they end.
    (0..6).for_each(|number| instances.submit(vec![view(number)]));
}

/// A card's form writes to memory of the encoder's own.
#[test]
fn what_a_pass_changes_is_not_shared() {
    let (config, model) = (config("trommel-tiny-32"), ClipConfig::load("trommel-tiny-32").unwrap());
    for patches in [false, true] {
        let form = Form { patches, ..Form::of(&config) };
        let (encoder, _) = TowerEncoder::load(&model, &config, form).unwrap();
        assert_eq!(encoder.instance(1).is_some(), !patches);
        assert_eq!(Instances::new(&encoder, 2).is_err(), patches);
    }
}

/// The forms that a card takes give what the convolution of planes in f32 gives, which open_clip's own outputs hold.
#[test]
fn every_form_of_the_tower_gives_its_features() {
    let folder = tempfile::tempdir().unwrap();
    let mut odd = ClipConfig::load("trommel-tiny-32").unwrap();
    odd.vision.image_size = 35; // no multiple of the patch
    odd.preprocess.size = 35;
    let path = folder.path().join("odd.json");
    std::fs::write(&path, odd.to_open_clip_json()).unwrap();
    let odd = path.to_string_lossy().into_owned();
    for model in ["trommel-tiny-32", "trommel-small-32", "trommel-tiny-32-quickgelu", &odd] {
        let run = |precision: EncoderPrecision, patches: bool, throughout: bool| {
            let config = EncoderConfig { precision, ..config(model) };
            let model = ClipConfig::load(model).unwrap();
            let (mut encoder, _) =
                TowerEncoder::load(&model, &config, Form { patches, throughout, folded: patches, ..Form::of(&config) })
                    .unwrap();
            let view_bytes = 3 * (encoder.size() * encoder.size()) as usize;
            let mut pixels = views(encoder.size() as usize);
            pixels.resize(8 * view_bytes, 77);
            let features = encoder.encode(&pixels).unwrap();
            features.chunks(encoder.dim()).flat_map(|row| canonical(row).unwrap()).map(f32::from).collect::<Vec<_>>()
        };
        let expected = run(EncoderPrecision::F32, false, false);
        let worst =
            |found: Vec<f32>| found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
        // A canonical vector is rounded to f16: one step there where f32 sums in another order.
        let cases = [
            (EncoderPrecision::F32, true, false, 2.5e-4),
            (EncoderPrecision::F16Mixed, true, false, 2e-3),
            (EncoderPrecision::F16, true, true, 4e-3),
            (EncoderPrecision::F16, false, true, 4e-3),
        ];
        for (precision, patches, throughout, most) in cases {
            let worst = worst(run(precision, patches, throughout));
            assert!(worst <= most, "{model} {precision:?} patches {patches} throughout {throughout}: {worst}");
        }
    }
}
