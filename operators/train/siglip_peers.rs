//! Training under the sigmoid beside open_clip's own trainer with `--siglip` (`golden/siglip_steps.py`), where a Python that has
//! it is named by `TROMMEL_PEERS`: a SigLIP, and a CLIP with a logit bias.
#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tch::Device;
use trommel_model::{Architecture, Model, weights};

use super::batch::Batch;
use super::checkpoint::{Checkpoints, Position};
use super::config::{Precision, Scheduler, TrainConfig};
use super::golden_tests::peers;
use super::ranks_tests::on_ranks;
use super::step::{Contrastive, Trainer};

const STEPS: u64 = 6;
const SAMPLES: usize = 16;

fn recipe() -> TrainConfig {
    TrainConfig {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-6,
        weight_decay: 0.2,
        warmup_steps: Some(0),
        scheduler: Scheduler::Const,
        precision: Precision::F32,
        ..TrainConfig::new(SAMPLES)
    }
}

fn trainer(architecture: &Arc<dyn Architecture>, weights_file: &Path, config: TrainConfig) -> Trainer<Model> {
    let model = Model::new(architecture, Device::Cpu).unwrap();
    weights::load(model.store(), &**architecture, weights_file).unwrap();
    Trainer::new(model, config, STEPS, architecture.preprocess().into(), Device::Cpu).unwrap()
}

fn rows(folder: &Path, number: u64, range: Range<usize>) -> Batch {
    let file = |name: &str| std::fs::read(folder.join(format!("{name}.{number}"))).unwrap();
    let (pixels, view, context) = (file("pixels"), 32 * 32 * 3, 64);
    let tokens: Vec<i64> = file("tokens").as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    let pixels = pixels[range.start * view..range.end * view].to_vec();
    let tokens = tokens[range.start * context..range.end * context].to_vec();
    Batch::new(range.len(), 32, context, pixels, tokens).unwrap()
}

fn losses(folder: &Path, trainer: &mut Trainer<Model>) -> Vec<f32> {
    (0..STEPS).map(|k| trainer.step(&rows(folder, k, 0..SAMPLES)).unwrap().loss).collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).max_by(f32::total_cmp).unwrap()
}

/// By how much of a tensor's largest value our checkpoint differs from theirs: weights, then first moments.
const COMPARE: &str = "
import sys, torch
ours, theirs = (torch.load(folder + '/epoch_1.pt', weights_only=True) for folder in sys.argv[1:])
assert set(ours['state_dict']) == set(theirs['state_dict'])
far = lambda a, b: ((a - b).abs().max() / b.abs().max().clamp(min=1e-3)).item()
print(max(far(v, theirs['state_dict'][k]) for k, v in ours['state_dict'].items() if 'in_proj_bias' not in k and 'kv.bias' not in k and 'qkv.bias' not in k))
a, b = ours['optimizer'], theirs['optimizer']
assert [g['params'] for g in a['param_groups']] == [g['params'] for g in b['param_groups']]
assert [g['weight_decay'] for g in a['param_groups']] == [g['weight_decay'] for g in b['param_groups']]
assert len(a['state']) == len(b['state']) == len(ours['state_dict'])
assert all(a['state'][i]['exp_avg'].shape == s['exp_avg'].shape for i, s in b['state'].items())
print(max(far(a['state'][i]['exp_avg'], s['exp_avg']) for i, s in b['state'].items()))
";

#[test]
fn steps_under_the_sigmoid_are_open_clips() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(python) = crate::skipped::peer("torch and open_clip") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/siglip_steps.py");
    let arguments = [STEPS.to_string(), SAMPLES.to_string()];
    let mut run = Command::new(python);
    run.arg(script).arg(folder).args(arguments).env("OMP_NUM_THREADS", "1").env_remove("LD_LIBRARY_PATH");
    let run = run.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    let models: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(models.len(), 2);
    for model in models {
        let name = model["name"].as_str().unwrap();
        let theirs: Vec<f32> = serde_json::from_value(model["losses"].clone()).unwrap();
        let architecture = trommel_model::load(folder.join(format!("{name}.json")).to_str().unwrap()).unwrap();
        let start = folder.join(format!("{name}.pt"));
        let of = |config| trainer(&architecture, &start, config);

        // The checkpoint is theirs: weights by name, moments by number.
        let checkpoint_differs = |trainer: &Trainer<Model>, after: &str| {
            let kept = folder.join(format!("{name}.{after}.ours"));
            let checkpoints = Checkpoints::open(&kept, name, None).unwrap();
            let position = Position { pass: 0, epoch: 1, cursor: Value::Null };
            assert!(position.ends_pass());
            checkpoints.save(trainer, &position).unwrap();
            let theirs = folder.join(format!("{name}.{after}/checkpoints"));
            let text = peers(COMPARE, &[&kept, &theirs]).unwrap();
            let far: Vec<f64> = text.lines().map(|line| line.parse().unwrap()).collect();
            eprintln!("{name}: weights and moments differ by {far:?} of the largest after the {after} step");
            (far[0], far[1])
        };

        // After one step the first moments are the gradients, each a tenth of its own. The keys' bias has none but rounding's: it adds
        // the same to all of a query's scores.
        let mut first = of(recipe());
        assert!(first.model().logit_bias().is_some(), "{name}");
        first.step(&rows(folder, 0, 0..SAMPLES)).unwrap();
        let (weights, gradients) = checkpoint_differs(&first, "first");
        assert!(weights < 2e-2 && gradients <= 2e-5, "{name}: {weights:e}, {gradients:e}");

        // Losses over the steps: whole, in chunks of the batch, some rows' logits at a time, and over two ranks.
        let mut whole = of(recipe());
        let ours = losses(folder, &mut whole);
        let (distance, fell) = (furthest(&ours, &theirs), theirs[0] - theirs[STEPS as usize - 1]);
        eprintln!("{name}: {distance:e}, {theirs:?}");
        assert!(distance < 1e-4 && fell.abs() > 0.1, "{name}: {ours:?} {theirs:?}");
        let chunked = losses(folder, &mut of(TrainConfig { accumulation_chunks: 4, ..recipe() }));
        assert!(furthest(&chunked, &theirs) < 1e-4, "{name}: {chunked:?} {theirs:?}");
        let mut few = of(recipe());
        few.logits_at_once = 3 * SAMPLES;
        let few = losses(folder, &mut few);
        assert!(furthest(&few, &theirs) < 1e-4, "{name}: {few:?} {theirs:?}");
        for logits_at_once in [usize::MAX / SAMPLES, 3 * SAMPLES] {
            let ranks = on_ranks(2, |group| {
                let (rank, half) = (group.rank(), SAMPLES / 2);
                let mut own = of(recipe());
                own.logits_at_once = logits_at_once;
                own.join_ranks(Arc::new(group)).unwrap();
                let step = |k| own.step(&rows(folder, k, rank * half..(rank + 1) * half)).unwrap().loss;
                (0..STEPS).map(step).collect::<Vec<f32>>()
            });
            assert_eq!(ranks[0], ranks[1]);
            assert!(furthest(&ranks[0], &theirs) < 1e-4, "{name}, 2 ranks: {:?} {theirs:?}", ranks[0]);
        }

        let (weights, moments) = checkpoint_differs(&whole, "last");
        assert!(weights < 2e-2 && moments < 2e-2, "{name}: {weights:e}, {moments:e}");
    }
}
