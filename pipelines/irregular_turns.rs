//! `irregular.jsonl` in the folder of a training run: what its order did that does not follow from its ledger, so that the steps of a sample can be
//! worked out afterwards. Of several processes the first one writes it.
//!
//! ```text
//! {"schema":1,"since":[0,0]}                                where it begins: pass and window; a run of before had none
//! {"pass":0,"window":3,"closed":57}                         a window that its bytes closed, with 57 samples
//! {"pass":1,"window":0,"skipped":[4,17]}                    sample 17 of shard 4 could not be read any more
//! {"pass":1,"window":2,"given_up":[5,100]}                  shard 5 could not be had beyond its first 100 samples
//! ```
//!
//! Lines are on the disk before the steps of their windows are taken. A resumed run cuts off those of its window and of later ones: they come again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trommel_core::durable::{self, if_there};
use trommel_dataflow::irregular::Irregular;
use trommel_dataflow::order::Cursor;

use crate::error::PipelineError;

const FILE: &str = "irregular.jsonl";
const SCHEMA: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    schema: u32,
    since: (u32, u64),
}

/// The file of a run that trains.
#[derive(Debug)]
pub struct IrregularTurns {
    path: PathBuf,
    file: File,
}

impl IrregularTurns {
    /// Begins it, or goes on with it from a checkpoint's place.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn begin(run: &Path, cursor: Option<&Cursor>) -> Result<Self, PipelineError> {
        let path = run.join(FILE);
        let from = cursor.map_or((0, 0), |cursor| (cursor.pass, cursor.window));
        let before = if from == (0, 0) { None } else { read(run)? };
        let since = if from == (0, 0) { from } else { before.as_ref().map_or(from, |(since, _)| *since) };
        let kept = before.map_or_else(Vec::new, |(_, turns)| turns);
        let kept = kept.into_iter().filter(|turn| (turn.pass, turn.window) < from);
        let mut text = line(&Head { schema: SCHEMA, since })?;
        for turn in kept {
            text.push_str(&line(&turn)?);
        }
        durable::write(&path, text.as_bytes()).map_err(PipelineError::at(&path))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(PipelineError::at(&path))?;
        Ok(Self { path, file })
    }

    /// Adds what was irregular.
    ///
    /// # Errors
    /// A disk that is full or gone.
    pub fn add(&mut self, turns: &[Irregular]) -> Result<(), PipelineError> {
        if turns.is_empty() {
            return Ok(());
        }
        let text = turns.iter().map(line).collect::<Result<String, _>>()?;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(PipelineError::at(&self.path))
    }
}

fn line(value: &impl Serialize) -> Result<String, PipelineError> {
    serde_json::to_string(value).map(|text| text + "\n").map_err(PipelineError::failed)
}

/// Where a run's file begins (pass, and turns before it), and its lines.
pub type Begun = ((u32, u64), Vec<Irregular>);

/// Where the file of a run begins, and its lines; `None` where it has none. A last line that a kill cut off counts as not written.
///
/// # Errors
/// A file that cannot be read, or is none of these.
pub fn read(run: &Path) -> Result<Option<Begun>, PipelineError> {
    let path = run.join(FILE);
    let Some(text) = if_there(fs::read_to_string(&path)).map_err(PipelineError::at(&path))? else { return Ok(None) };
    let bad = |error: serde_json::Error| PipelineError::failed(error).within(path.display());
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let head: Head = serde_json::from_str(lines.next().unwrap_or_default()).map_err(bad)?;
    if head.schema != SCHEMA {
        let shown = path.display();
        return Err(PipelineError::usage(format!("{shown}: schema {}, this program reads {SCHEMA}", head.schema)));
    }
    let turns = lines.map(serde_json::from_str).collect::<Result<_, _>>().map_err(bad)?;
    Ok(Some((head.since, turns)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use trommel_dataflow::irregular::What;

    use super::*;

    fn turn(pass: u32, window: u64, what: What) -> Irregular {
        Irregular { pass, window, what }
    }

    fn at(pass: u32, window: u64) -> Cursor {
        Cursor { pass, window, ..Cursor::start_of(pass, 1) }
    }

    #[test]
    fn what_a_resumed_run_does_again_stands_there_once() {
        let run = tempfile::tempdir().unwrap();
        assert!(read(run.path()).unwrap().is_none());
        let turns = [turn(0, 3, What::Closed(57)), turn(1, 0, What::Skipped(4, 17)), turn(1, 2, What::GivenUp(5, 100))];
        IrregularTurns::begin(run.path(), None).unwrap().add(&turns).unwrap();
        assert_eq!(read(run.path()).unwrap().unwrap(), ((0, 0), turns.to_vec()));
        let text = fs::read_to_string(run.path().join(FILE)).unwrap();
        let lines = r#"{"schema":1,"since":[0,0]}
{"pass":0,"window":3,"closed":57}
{"pass":1,"window":0,"skipped":[4,17]}
{"pass":1,"window":2,"given_up":[5,100]}
"#;
        assert_eq!(text, lines);
        // Killed in the middle of a line.
        fs::write(run.path().join(FILE), &text[..text.len() - 5]).unwrap();
        assert_eq!(read(run.path()).unwrap().unwrap().1, turns[..2]);
        let mut again = IrregularTurns::begin(run.path(), Some(&at(1, 1))).unwrap();
        assert_eq!(read(run.path()).unwrap().unwrap(), ((0, 0), turns[..2].to_vec()));
        again.add(&turns[2..]).unwrap();
        assert_eq!(read(run.path()).unwrap().unwrap(), ((0, 0), turns.to_vec()));
        // From before its first checkpoint it begins anew.
        IrregularTurns::begin(run.path(), None).unwrap();
        assert_eq!(read(run.path()).unwrap().unwrap(), ((0, 0), vec![]));
    }

    #[test]
    fn a_run_of_before_says_from_where_on_it_is_known() {
        let run = tempfile::tempdir().unwrap();
        IrregularTurns::begin(run.path(), Some(&at(2, 5))).unwrap();
        assert_eq!(read(run.path()).unwrap().unwrap(), ((2, 5), vec![]));
        IrregularTurns::begin(run.path(), Some(&at(3, 0))).unwrap();
        assert_eq!(read(run.path()).unwrap().unwrap().0, (2, 5));
    }
}
