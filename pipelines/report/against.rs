//! Split against split: whom another run over the same shards, or a split of them, decides otherwise.

use std::collections::HashMap;
use std::path::Path;

use trommel_core::sample::Status;
use trommel_ledger::read::LedgerRow;
use trommel_report::{Cell, DataTable};
use trommel_select::membership::{Membership, Picker};
use trommel_select::met::Met;

use crate::error::PipelineError;
use crate::failures::failed;
use crate::past_run::PastRun;

/// Samples that are named on the page.
const NAMED: usize = 50;
/// Most samples that are named in the table's file: they are in memory together.
const MOST_NAMED: usize = 1 << 18;

const SIDES: [(Status, &str); 3] =
    [(Status::Kept, "kept"), (Status::Dropped, "dropped"), (Status::Rejected, "rejected")];

fn side(status: Status) -> usize {
    SIDES.iter().position(|(side, _)| *side == status).unwrap_or(SIDES.len() - 1)
}

/// What decides otherwise.
enum Other {
    /// A run, with the ordinals of its shards by their names.
    Run(Box<PastRun>, HashMap<String, u64>),
    /// A split, its rule, and the shards of which it keeps samples beside those of the run, where it says: who is not in it is dropped by
    /// it, and what could not be judged here is nobody's there.
    Split(Box<Membership>, String, Option<u64>),
}

impl Other {
    fn open(path: &Path, shards: &[&str]) -> Result<Self, PipelineError> {
        if path.is_file() {
            let split = Membership::open(path).map_err(failed)?;
            let rule = split.head().map_or_else(|| "not said".to_owned(), |head| head.rule.clone());
            let absent = split.coverage(shards, &[]).map_err(failed)?.map(|coverage| coverage.absent);
            return Ok(Self::Split(Box::new(split), rule, absent));
        }
        let run = PastRun::open(path)?;
        let ordinals = run.plan.shards.iter().map(|shard| (shard.name.clone(), shard.ordinal)).collect();
        Ok(Self::Run(Box::new(run), ordinals))
    }

    fn rule(&self) -> &str {
        match self {
            Self::Run(run, _) => &run.rule_text,
            Self::Split(_, rule, _) => rule,
        }
    }

    /// Shards that it decides on beside those that `both` judge; `None` where a list does not say.
    fn further(&self, both: u64) -> Option<u64> {
        match self {
            Self::Run(run, _) => Some(run.ledger.shards().len() as u64 - both),
            Self::Split(_, _, absent) => *absent,
        }
    }

    /// What becomes of a shard's samples; `None` where it is not judged.
    fn sides(&self, shard: &str, mine: &[LedgerRow], path: &Path) -> Result<Option<Vec<Status>>, PipelineError> {
        match self {
            Self::Run(run, ordinals) => {
                let Some(ordinal) = ordinals.get(shard).filter(|there| run.ledger.is_committed(**there)) else {
                    return Ok(None);
                };
                let theirs = run.ledger.shard_rows(*ordinal).map_err(PipelineError::failed)?;
                let same = mine.len() == theirs.len()
                    && mine.iter().zip(&theirs).all(|(mine, theirs)| mine.fate.info.key == theirs.fate.info.key);
                if !same {
                    let path = path.display();
                    return Err(PipelineError::usage(format!(
                        "--against {path}: shard {shard} has other samples there"
                    )));
                }
                Ok(Some(theirs.iter().map(|row| row.fate.status).collect()))
            }
            Self::Split(split, ..) => {
                let kept = split.shard(shard).map_err(failed)?;
                let mut picker = kept.as_ref().map(|kept| Picker::new(path, shard, kept));
                let mut sides = Vec::with_capacity(mine.len());
                for row in mine {
                    let info = &row.fate.info;
                    let judged = row.fate.status != Status::Rejected;
                    let keeps = match picker.as_mut().filter(|picker| judged || !picker.needs_uids()) {
                        Some(picker) => picker.keeps(info.id.index, &info.key, || info.uid.clone()).map_err(failed)?,
                        None => false,
                    };
                    sides.push(match (keeps, judged) {
                        (true, _) => Status::Kept,
                        (false, true) => Status::Dropped,
                        (false, false) => Status::Rejected,
                    });
                }
                picker.map_or(Ok(()), |picker| picker.finish()).map_err(failed)?;
                Ok(Some(sides))
            }
        }
    }
}

/// How many change sides, and the first of them by name; with what is to be said where they are more than a file names.
///
/// # Errors
/// Neither a run folder nor a split, one that shares no shard with this run, or a shard that is another one there.
pub(super) fn tables(past: &PastRun, path: &Path) -> Result<([DataTable; 2], Option<String>), PipelineError> {
    let judged: Vec<_> = past.plan.shards.iter().filter(|shard| past.ledger.is_committed(shard.ordinal)).collect();
    let names: Vec<&str> = judged.iter().map(|shard| shard.name.as_str()).collect();
    let other = Other::open(path, &names)?;
    let (mut counts, mut turned) = ([[0u64; 3]; 3], Vec::new());
    let (mut both, mut mine_only) = (0u64, 0u64);
    // Names that a list has and no sample here, since it does not say where they stand.
    let mut met = if let Other::Split(split, ..) = &other { split.met() } else { None };
    for shard in &judged {
        let mine = past.ledger.shard_rows(shard.ordinal).map_err(PipelineError::failed)?;
        for info in mine.iter().map(|row| &row.fate.info) {
            met.as_mut().map_or(Ok(false), |met| met.again(&info.key, info.uid.as_deref())).map_err(failed)?;
        }
        let Some(theirs) = other.sides(&shard.name, &mine, path)? else {
            mine_only += 1;
            continue;
        };
        both += 1;
        for (mine, there) in mine.iter().zip(theirs) {
            let (from, to) = (side(mine.fate.status), side(there));
            counts[from][to] += 1;
            if from != to && turned.len() < MOST_NAMED {
                let name = format!("{}/{}", shard.name, mine.fate.info.key);
                turned.push([name, SIDES[from].1.into(), SIDES[to].1.into()].map(Cell::Text).to_vec());
            }
        }
    }
    let path = path.display();
    if both == 0 {
        return Err(PipelineError::usage(format!("--against {path}: no shard is judged in both runs")));
    }
    let columns = ["this run", "kept there", "dropped there", "rejected there"];
    let row = |(from, (_, name)): (usize, &(Status, &str))| {
        [Cell::Text((*name).into())].into_iter().chain(counts[from].map(Cell::Count)).collect()
    };
    let rows = SIDES.iter().enumerate().map(row).collect();
    let further = other.further(both).map_or_else(|| "an unknown number".to_owned(), |count| count.to_string());
    let mut note = format!(
        "Beside {path}, rule {}. {both} shards are judged in both, {mine_only} here only, {further} there only.",
        other.rule()
    );
    let unmet = met.as_ref().map(Met::unmet).transpose().map_err(failed)?.unwrap_or_default();
    if unmet.count > 0 {
        note += &format!(" {} names of the list are no sample's here (first: {}).", unmet.count, unmet.first);
    }
    let title = if matches!(other, Other::Run(..)) { "Beside another run" } else { "Beside a split" };
    let sides = DataTable { rows, ..DataTable::new("against", title, &columns).noted(&note) };
    let named = DataTable::new("turned", "Who changes sides", &["sample", "here", "there"]);
    let all: u64 =
        (0..3).flat_map(|a| (0..3).filter(move |&b| a != b).map(move |b| (a, b))).map(|(a, b)| counts[a][b]).sum();
    let note =
        if all > NAMED as u64 { format!("The first {NAMED} of {all} by shard and index.") } else { String::new() };
    let unnamed = all - turned.len() as u64;
    let cut = (unnamed > 0).then(|| {
        format!("turned.csv names the first {MOST_NAMED} of {all} samples that change sides, and {unnamed} no more")
    });
    Ok(([sides, DataTable { rows: turned, shown_rows: Some(NAMED), ..named.noted(&note) }], cut))
}
