//! How a command ended, as an exit status and one line.

use trommel_core::notices::Notices;
use trommel_core::text::{percent, thousands};
use trommel_pipelines::cores::Threads;
use trommel_pipelines::error::{ErrorKind, PipelineError};

use crate::say::{say, say_lines};

/// What a command that did not fail has to say.
#[derive(Debug, Default)]
pub struct Done {
    /// Interrupted, or shards unfinished: status 3.
    pub unfinished: Option<String>,
    /// More rejects than allowed: status 4.
    pub too_many_rejects: Option<String>,
    /// Everything is said already, and this is the status.
    pub said: Option<u8>,
}

impl Done {
    /// Nothing more to say than this status.
    pub fn said(status: u8) -> Self {
        Self { said: Some(status), ..Self::default() }
    }
}

/// The result of a command.
pub type Outcome = Result<Done, PipelineError>;

/// Prints why, if there is a why, and gives the status.
pub fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Ok(Done { said: Some(status), .. }) => status,
        Ok(Done { unfinished: Some(why), .. }) => {
            say(why);
            ErrorKind::Unfinished.status()
        }
        Ok(Done { too_many_rejects: Some(why), .. }) => {
            say(why);
            4
        }
        Ok(_) => 0,
        Err(error) => {
            say_lines(error.line());
            error.status()
        }
    }
}

/// Ends the process at once with a line, whatever still runs.
pub fn leave(error: PipelineError) -> ! {
    signal_hook::low_level::exit(i32::from(exit_code(Err(error))))
}

/// What became of what a run was to read.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// Samples that could not be judged.
    pub rejected: u64,
    /// All samples that came, rejects included.
    pub samples: u64,
    /// Shards, or files of embeddings, that were to be read; 0 where the command does not count them.
    pub shards: u64,
    /// What was lost before it was a sample, or passed over.
    pub notices: &'a Notices,
}

impl Read<'_> {
    /// Why this is more than may be rejected and lost. Of shards that are lost as a whole nobody may know how many samples they held: there the
    /// share of the shards counts. Whatever the share is, a run that lost something and read nothing has not done its work, and where nothing
    /// may be rejected, no loss is too small.
    pub fn too_many(self, max_rejects_percent: f64) -> Option<String> {
        let Self { rejected, samples, shards, notices } = self;
        let (lost, files) = (notices.lost_samples(), notices.lost_files());
        let (gone, all) = (rejected.saturating_add(lost), samples.saturating_add(lost));
        #[expect(clippy::cast_precision_loss)]
        let is_above = |part: u64, whole: u64| part as f64 > whole as f64 * max_rejects_percent / 100.0;
        if shards > 0 && is_above(files, shards) {
            let share = percent(files, shards);
            return Some(format!(
                "of {shards} shards {files} were lost ({share}); --max-rejects is {max_rejects_percent} %"
            ));
        }
        let too_many = is_above(gone, all);
        let any = notices.any_loss() && (max_rejects_percent <= 0.0 || rejected == samples);
        (too_many || any).then(|| match notices.any_loss() {
            false => format!(
                "{rejected} of {samples} samples were rejected ({}), above --max-rejects {max_rejects_percent} %",
                percent(rejected, samples)
            ),
            true => format!(
                "of {all} samples {rejected} were rejected and {lost} lost ({}); --max-rejects is {max_rejects_percent} %",
                percent(gone, all)
            ),
        })
    }
}

/// Says on which cores, and with how many threads, a command has worked that has no dataflow. What is refused says nothing else, so it comes
/// with the result.
pub fn tell_threads(threads: &Threads) {
    say(threads.to_string());
}

/// How many samples no rule has seen, in words.
pub fn in_no_split(rejected: u64, taken_down: u64) -> String {
    let [rejected, taken_down] = [rejected, taken_down].map(thousands);
    format!("{rejected} could not be judged and {taken_down} are taken down: they are in no split")
}

/// Says what is remarkable about a split: a line each, on stderr.
pub fn tell_remarks(remarks: &[String]) {
    for remark in remarks {
        say(format!("  {remark}"));
    }
}

/// Says what was found in the input: one line a kind, on stderr.
pub fn tell(notices: &Notices) {
    for line in notices.lines() {
        say(format!("  {line}"));
    }
}
