//! The scripts of `docs/cluster.md`, run as they stand there but for numbers and names: eight processes of a tiny model.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::cluster::{free_address, no_panic};
use common::processes::Group;
use common::{MODEL, World, logged_losses, peer};

const PROCESSES: usize = 8;
const STEPS: u64 = 6;

/// What srun does with a step on one node: every task gets its variables, and the worst status is the step's.
const SRUN: &str = r#"#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
ask() { grep -o -- "--$1=[0-9]*" "$BATCH_SCRIPT" | cut -d= -f2; }
tasks=$(( $(ask nodes) * $(ask ntasks-per-node) ))
export SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost SLURM_NODEID=0 SLURM_NTASKS=$tasks
export SLURM_STEP_NUM_TASKS=$tasks SLURM_STEP_TASKS_PER_NODE=$tasks SLURM_CPUS_PER_TASK=$(ask cpus-per-task)
for task in $(seq 0 $((tasks - 1))); do
    SLURM_PROCID=$task SLURM_LOCALID=$task "$@" & ids+=($!)
done
worst=0
for id in "${ids[@]}"; do wait "$id"; status=$?; (( status > worst )) && worst=$status; done
exit $worst
"#;

/// The first block under a heading of the page.
fn documented(heading: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cluster.md")).unwrap();
    let section = page.split_once(&format!("\n## {heading}\n")).unwrap().1;
    section.split("```").nth(1).unwrap().trim_start_matches('\n').to_owned()
}

/// The text with each of the names replaced; all of them stand in it.
fn with(text: String, names: &[(&str, &str)]) -> String {
    names.iter().fold(text, |text, (name, value)| {
        assert!(text.contains(name), "`{name}` does not stand in the documentation any more:\n{text}");
        text.replace(name, value)
    })
}

/// A folder for programs that the script finds before all others, `trommel` among them.
fn programs(folder: &Path) -> PathBuf {
    let programs = folder.join("bin");
    fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_trommel"), programs.join("trommel")).unwrap();
    programs
}

/// Runs the script with bash. What it says, once it has ended with 0.
fn ends_well(script: &Path, programs: &Path) -> String {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.arg(script).env("PATH", path).env("BATCH_SCRIPT", script).env("SLURM_JOB_ID", std::process::id().to_string());
    let mut group = Group::of(bash, &[]);
    no_panic(&group.ends_with(0, 240));
    group.said()
}

fn trained(run: &Path) {
    let losses = logged_losses(run);
    assert_eq!(losses.len() as u64, STEPS);
    assert!(losses.iter().all(|(_, loss)| loss.is_finite()), "{losses:?}");
    assert!(run.join("checkpoints/epoch_latest.pt").exists());
}

#[test]
fn the_slurm_script_runs() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let (run, script) = (folder.path().join("run"), folder.path().join("job.sh"));
    let into = run.display().to_string();
    let radii = format!("val={}", world.path("radii/photo"));
    let samples = (32 * STEPS).to_string();
    let text = with(
        documented("SLURM"),
        &[
            ("--cpus-per-task=16", "--cpus-per-task=1"),
            ("/data/laion/{00000..41407}.tar", &world.shards()),
            ("val=radii/val", &radii),
            ("--embedder-weights laion400m_e32.safetensors", &format!("--embedder {MODEL} --random-init 1")),
            ("--model ViT-B-32", &format!("--model {MODEL}")),
            ("--batch 4096 --samples 200000000", &format!("--batch 32 --samples {samples}")),
            ("/shared/RUN", &into),
            ("--metrics 9100", "--metrics 0"),
        ],
    );
    fs::write(&script, text).unwrap();
    let programs = programs(folder.path());
    fs::write(programs.join("srun"), SRUN).unwrap();
    fs::set_permissions(programs.join("srun"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = ends_well_or_requeues(&script, &programs);
    assert!(!said.contains("lanes to read from"), "{said}");
    trained(&run);
}

/// The script's own last line asks whether to come again: its status is that question's answer, 1 for no.
fn ends_well_or_requeues(script: &Path, programs: &Path) -> String {
    let text = fs::read_to_string(script).unwrap();
    assert!(text.trim_end().ends_with("# unfinished: the same command resumes"), "{text}");
    fs::write(script, format!("{text}[ $? -eq 1 ]   # it was not to come again\n")).unwrap();
    ends_well(script, programs)
}

#[test]
fn the_torchrun_command_runs() {
    let Some(python) = peer("torch") else { return };
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let (run, script) = (folder.path().join("run"), folder.path().join("job.sh"));
    let into = run.display().to_string();
    let steps = STEPS.to_string();
    let flags = format!("--rule random:50% --model {MODEL} --batch 32 --steps {steps} --threads 1 --memory 1536MiB");
    let shards = format!("'{}' {flags}", world.shards());
    let text = with(
        documented("torchrun"),
        &[("node1:29500", &free_address()), ("SHARDS ..", &shards), ("/shared/RUN", &into)],
    );
    assert!(text.contains("--nnodes=2 --nproc-per-node=4"), "eight processes:\n{text}");
    // Both nodes are this one.
    let text = format!("node() {{\n{text}\n}}\nnode & first=$!\nnode & second=$!\nwait $first && wait $second\n");
    fs::write(&script, text).unwrap();
    let programs = programs(folder.path());
    std::os::unix::fs::symlink(python.parent().unwrap().join("torchrun"), programs.join("torchrun")).unwrap();
    ends_well(&script, &programs);
    trained(&run);
    let settled: serde_json::Value = serde_json::from_slice(&fs::read(run.join("training.json")).unwrap()).unwrap();
    assert_eq!(settled["order"]["lanes"], 6, "six shards for {PROCESSES} processes");
}
