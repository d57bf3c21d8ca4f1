//! Bench: decoding alone. A card's pixels beside the CPU's, and how fast views come out of both.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use trommel_decode::card::compare::{self, DecodeBench};
use trommel_decode::operator::DecodeConfig;
use trommel_decode::view::{EvalView, ResizeMode};
use trommel_embed::device;
use trommel_pipelines::error::PipelineError;
use trommel_shard::tar::{MemberKind, TarLimits, TarReader};

/// Most encoded bytes that are looked at: all of them, their pixels and views are held.
const MOST_BYTES: u64 = 64 << 20;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchedPictures {
    /// A folder of pictures, or a tar with some.
    pub path: PathBuf,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// Side of the views.
    pub view: u32,
    /// Time for each rate.
    pub seconds: f64,
}

/// Compares and measures.
///
/// # Errors
/// No pictures, or a card without what it takes.
pub fn decoding(bench: &BenchedPictures) -> Result<DecodeBench, PipelineError> {
    let ordinal = match device::parse(&bench.device).map_err(PipelineError::usage)? {
        tch::Device::Cuda(ordinal) => Some(ordinal),
        _ => None,
    };
    let pictures = pictures(&bench.path)?;
    if pictures.is_empty() {
        return Err(PipelineError::usage(format!("{}: no files there", bench.path.display())));
    }
    let eval = Some(EvalView { size: bench.view, mode: ResizeMode::Shortest });
    let config = DecodeConfig { eval, ..DecodeConfig::default() };
    compare::bench(ordinal, &config, &pictures, bench.seconds).map_err(PipelineError::usage)
}

/// Files of a folder, or members of a tar, by name; [`MOST_BYTES`] of them.
fn pictures(path: &Path) -> Result<Vec<(String, Vec<u8>)>, PipelineError> {
    let (mut found, mut left) = (Vec::new(), MOST_BYTES);
    let mut keep = |name: String, bytes: Vec<u8>| {
        left = left.saturating_sub(bytes.len() as u64);
        found.push((name, bytes));
        left > 0
    };
    if path.is_dir() {
        let entries = fs::read_dir(path).and_then(|all| all.map(|it| Ok(it?.path())).collect::<io::Result<Vec<_>>>());
        let mut files: Vec<PathBuf> = entries.map_err(PipelineError::at(path))?;
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !keep(name, fs::read(file).map_err(PipelineError::at(file))?) {
                break;
            }
        }
    } else {
        let mut tar =
            TarReader::new(BufReader::new(File::open(path).map_err(PipelineError::at(path))?), TarLimits::default());
        while let Some(member) = tar.next_member() {
            let name = String::from_utf8_lossy(&member.name).into_owned();
            let is_text = [".txt", ".json", ".cls"].iter().any(|end| name.ends_with(end));
            if member.kind != MemberKind::Regular || is_text {
                continue;
            }
            let Some(bytes) = tar.read_data() else { break };
            if !keep(name, bytes) {
                break;
            }
        }
    }
    Ok(found)
}
