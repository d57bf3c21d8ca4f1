//! Split against split: whom another run over the same shards decides otherwise.

use std::collections::HashMap;
use std::path::Path;

use trommel_core::sample::Status;
use trommel_report::{Cell, DataTable};

use crate::error::PipelineError;
use crate::past_run::PastRun;

/// Samples that are named.
const NAMED: usize = 50;

const SIDES: [(Status, &str); 3] =
    [(Status::Kept, "kept"), (Status::Dropped, "dropped"), (Status::Rejected, "rejected")];

fn side(status: Status) -> usize {
    SIDES.iter().position(|(side, _)| *side == status).unwrap_or(SIDES.len() - 1)
}

/// How many change sides, and the first of them by name.
///
/// # Errors
/// No run folder, one that shares no shard with this one, or a shard that is another one there.
pub(super) fn tables(past: &PastRun, run: &Path) -> Result<[DataTable; 2], PipelineError> {
    let other = PastRun::open(run)?;
    let theirs: HashMap<&str, u64> =
        other.plan.shards.iter().map(|shard| (shard.name.as_str(), shard.ordinal)).collect();
    let (mut counts, mut turned) = ([[0u64; 3]; 3], Vec::new());
    let (mut both, mut mine_only) = (0u64, 0u64);
    for shard in past.plan.shards.iter().filter(|shard| past.ledger.is_committed(shard.ordinal)) {
        let there = theirs.get(shard.name.as_str()).filter(|there| other.ledger.is_committed(**there));
        let Some(there) = there else {
            mine_only += 1;
            continue;
        };
        both += 1;
        let rows = |past: &PastRun, ordinal: u64| past.ledger.shard_rows(ordinal).map_err(PipelineError::failed);
        let (mine, theirs) = (rows(past, shard.ordinal)?, rows(&other, *there)?);
        let same = mine.len() == theirs.len()
            && mine.iter().zip(&theirs).all(|(mine, theirs)| mine.fate.info.key == theirs.fate.info.key);
        if !same {
            return Err(PipelineError::Usage(format!(
                "--against {}: shard {} has other samples there",
                run.display(),
                shard.name
            )));
        }
        for (mine, theirs) in mine.iter().zip(&theirs) {
            let (from, to) = (side(mine.fate.status), side(theirs.fate.status));
            counts[from][to] += 1;
            if from != to && turned.len() < NAMED {
                let name = format!("{}/{}", shard.name, mine.fate.info.key);
                turned.push([name, SIDES[from].1.into(), SIDES[to].1.into()].map(Cell::Text).to_vec());
            }
        }
    }
    let run = run.display();
    if both == 0 {
        return Err(PipelineError::Usage(format!("--against {run}: no shard is judged in both runs")));
    }
    let theirs_only = other.ledger.shards().len() as u64 - both;
    let columns = ["this run", "kept there", "dropped there", "rejected there"];
    let row = |(from, (_, name)): (usize, &(Status, &str))| {
        [Cell::Text((*name).into())].into_iter().chain(counts[from].map(Cell::Count)).collect()
    };
    let rows = SIDES.iter().enumerate().map(row).collect();
    let note = format!(
        "Beside {run}, rule {}. {both} shards are judged in both, {mine_only} here only, {theirs_only} there only.",
        other.rule_text
    );
    let sides = DataTable { rows, ..DataTable::new("against", "Beside another run", &columns).noted(&note) };
    let named = DataTable::new("turned", "Who changes sides", &["sample", "here", "there"]);
    let all: u64 =
        (0..3).flat_map(|a| (0..3).filter(move |&b| a != b).map(move |b| (a, b))).map(|(a, b)| counts[a][b]).sum();
    let note = if all > turned.len() as u64 {
        format!("The first {NAMED} of {all} by shard and index.")
    } else {
        String::new()
    };
    Ok([sides, DataTable { rows: turned, ..named.noted(&note) }])
}
