//! The command line: `[TARGET..] [--seconds N] [--seed S] [--replay FILE]`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::{Campaign, Target};

const USAGE: &str = "\
trommel-fuzz [TARGET..] [--seconds N] [--seed S] [--replay FILE]

Feeds hostile bytes to the targets, all of them where none is named, for N seconds each (default 60).
--seed S       other inputs (default: by the clock; it is printed)
--replay FILE  runs the targets on this input alone; may be given several times";

/// Runs what the words ask for. 0: nothing was found; 1: something was; 2: wrong usage.
pub fn run(targets: &[Target], words: impl Iterator<Item = String>) -> ExitCode {
    match Asked::parse(targets, words) {
        Err(why) if why.is_empty() => {
            eprintln!("{USAGE}\n");
            targets.iter().for_each(|target| eprintln!("  {:<16} {}", target.name, target.about));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Ok(asked) => asked.run(),
    }
}

struct Asked<'t> {
    targets: Vec<&'t Target>,
    seconds: u64,
    seed: u64,
    replay: Vec<PathBuf>,
}

impl<'t> Asked<'t> {
    fn parse(known: &'t [Target], mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.as_secs());
        let mut asked = Self { targets: Vec::new(), seconds: 60, seed: clock, replay: Vec::new() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("`{text}` is no number"));
            match word.as_str() {
                "-h" | "--help" => return Err(String::new()),
                "--seconds" => asked.seconds = number(value()?)?,
                "--seed" => asked.seed = number(value()?)?,
                "--replay" => asked.replay.push(value()?.into()),
                name => {
                    let target = known.iter().find(|target| target.name == name);
                    asked.targets.push(target.ok_or(format!("no target `{name}`; --help lists them"))?);
                }
            }
        }
        if asked.targets.is_empty() {
            asked.targets = known.iter().collect();
        }
        Ok(asked)
    }

    fn run(self) -> ExitCode {
        let mut found = 0;
        for target in self.targets {
            let mut campaign = Campaign::new(target, self.seed);
            if !self.replay.is_empty() {
                found += campaign.replay(&self.replay).len();
                continue;
            }
            found += campaign.run_for(Duration::from_secs(self.seconds)).len();
            eprintln!("{}", campaign.summary());
        }
        if self.replay.is_empty() {
            eprintln!("seed {}", self.seed);
        }
        ExitCode::from(u8::from(found > 0))
    }
}
