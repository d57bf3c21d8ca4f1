//! A run is a value: several in one process, one after the other and at the same time, say what each says alone.

use std::path::Path;
use std::sync::Arc;

use trommel_core::cores::Cores;
use trommel_core::sample::Fate;
use trommel_core::stop::Stop;
use trommel_decide::join::ColumnSet;
use trommel_ledger::read::Ledger;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::config::{DecodeOn, EmbedderConfig, JoinOn, JudgeConfig, Machine, ReadingConfig};
use trommel_pipelines::gauges::Gauges;
use trommel_pipelines::progress::Progress;
use trommel_synth::SynthConfig;

use crate::prune::prune;

pub(crate) fn config(data: &Path, run: &Path, rule: &str) -> JudgeConfig {
    let benchmark = format!("photo={}", data.join("benchmarks/photo").display());
    JudgeConfig {
        shards: vec![data.join("shards/{00000..00002}.tar").display().to_string()],
        plan: None,
        run: run.to_path_buf(),
        benchmarks: NamedPath::parse_all(&[benchmark], &[]).unwrap(),
        rule: Some(rule.into()),
        rule_seed: 3,
        join: JoinOn::Auto,
        columns: ColumnSet::All,
        keep_embeddings: true,
        embedder: EmbedderConfig {
            name: "trommel-tiny-32".into(),
            weights: None,
            torchscript: false,
            random_init: Some(0),
            assume_model: None,
            precision: None,
            batch: None,
            weights_flag: "--embedder-weights",
        },
        always_embed: false,
        reading: ReadingConfig::default(),
        blur: false,
        mix_numerics: false,
        machine: Machine {
            device: "cpu".into(),
            decode: DecodeOn::Cpu,
            workers: 2,
            cores: Cores::of_this_process(),
            own_cores: 1,
            threads: 1,
            card_processes: 1,
            waiting: Vec::new(),
            memory_bytes: 2 << 30,
        },
        cluster: None,
        gauges: Gauges::default(),
    }
}

fn fates(config: &JudgeConfig) -> Vec<Fate> {
    let report = prune(config, Stop::new(), &Arc::new(Progress::default())).unwrap();
    assert!(!report.interrupted);
    Ledger::open(&config.run).unwrap().rows().unwrap().map(|row| row.unwrap().fate).collect()
}

#[test]
fn two_at_the_same_time_say_what_each_says_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let synth = SynthConfig {
        shards: 3,
        samples: 40,
        benchmark_pictures_per_class: 2,
        reference_pictures_per_class: 1,
        ..SynthConfig::default()
    };
    trommel_synth::write(&data, &synth).unwrap();
    let rules = ["drop-above:0.97", "drop-below:0.97"];
    let of = |name: &str| rules.map(|rule| config(&data, &folder.path().join(format!("{name}-{}", &rule[5..9])), rule));
    let alone = of("alone").map(|config| fates(&config));
    let beside = of("beside");
    let together: Vec<Vec<Fate>> = std::thread::scope(|scope| {
        let running: Vec<_> = beside.iter().map(|config| scope.spawn(|| fates(config))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let judged = |fates: &[Fate]| fates.iter().map(|fate| (fate.status, fate.scores.clone())).collect::<Vec<_>>();
    for (alone, beside) in alone.iter().zip(&together) {
        assert_eq!(alone.len(), 120);
        assert_eq!(judged(alone), judged(beside));
    }
    assert_ne!(judged(&alone[0]), judged(&alone[1]), "the rules differ, and so must what they keep");
}
