//! How a command ended, as an exit status and one line.

#![cfg_attr(not(feature = "torch"), allow(dead_code, reason = "statuses of commands that are left out"))]

use trommel_operators::escape::{escape_controls, escape_lines};
use trommel_operators::notices::Notices;
use trommel_pipelines::error::PipelineError;

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
            eprintln!("trommel: {}", escape_controls(&why));
            3
        }
        Ok(Done { too_many_rejects: Some(why), .. }) => {
            eprintln!("trommel: {}", escape_controls(&why));
            4
        }
        Ok(_) => 0,
        Err(error) => {
            eprintln!("trommel: {}", escape_lines(&error.to_string()));
            error.status()
        }
    }
}

/// Wrong usage before anything ran.
pub fn refuse(error: &anyhow::Error) -> u8 {
    eprintln!("trommel: {}", escape_lines(&format!("{error:#}")));
    2
}

/// Says what was found in the input: one line a kind, on stderr.
pub fn tell(notices: &Notices) {
    for line in notices.lines() {
        eprintln!("trommel:   {}", escape_controls(&line));
    }
}
