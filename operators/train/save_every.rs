//! `--save-every 30m|2000steps|1e6samples|N`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often a checkpoint is written, besides at the end, at a pass's end and on a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SaveEvery {
    /// This much time after the last one.
    Time(Duration),
    /// Every so many steps.
    Steps(u64),
    /// Whenever another so many samples were seen.
    Samples(u64),
}

/// What was written instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` says not how often to save: write 90s, 30m, 2h, 2000steps, 1e6samples, or a number of steps")]
pub struct SaveEveryError(String);

impl SaveEvery {
    /// Whether a checkpoint is due after a step that brought the counts from `before` to `after` (steps, samples).
    #[must_use]
    pub fn is_due(&self, since_last: Duration, before: (u64, u64), after: (u64, u64)) -> bool {
        match *self {
            Self::Time(time) => since_last >= time,
            Self::Steps(steps) => before.0 / steps != after.0 / steps,
            Self::Samples(samples) => before.1 / samples != after.1 / samples,
        }
    }
}

/// A whole number above 0, also as `1e6` or `2.5e5`.
fn whole(text: &str) -> Option<u64> {
    if let Ok(number) = text.parse::<u64>() {
        return (number > 0).then_some(number);
    }
    let number: f64 = text.parse().ok()?;
    ((1.0..=9e15).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

impl FromStr for SaveEvery {
    type Err = SaveEveryError;

    fn from_str(text: &str) -> Result<Self, SaveEveryError> {
        let trimmed = text.trim();
        // The unit starts at the last run of letters; an `e` between digits belongs to the number.
        let split = trimmed.rfind(|c: char| c.is_ascii_digit()).map_or(0, |last| last + 1);
        let (number, unit) = (&trimmed[..split], trimmed[split..].trim());
        let parsed = match unit {
            "" | "step" | "steps" => whole(number).map(Self::Steps),
            "sample" | "samples" => whole(number).map(Self::Samples),
            "s" | "sec" | "m" | "min" | "h" | "d" => {
                let seconds = match unit {
                    "s" | "sec" => 1.0,
                    "m" | "min" => 60.0,
                    "h" => 3600.0,
                    _ => 86_400.0,
                };
                let time = number.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0).map(|n| n * seconds);
                time.and_then(|time| Duration::try_from_secs_f64(time).ok()).map(Self::Time)
            }
            _ => None,
        };
        parsed.ok_or_else(|| SaveEveryError(text.into()))
    }
}

impl fmt::Display for SaveEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{}s", time.as_secs_f64()),
            Self::Steps(steps) => write!(f, "{steps}steps"),
            Self::Samples(samples) => write!(f, "{samples}samples"),
        }
    }
}

impl TryFrom<String> for SaveEvery {
    type Error = SaveEveryError;

    fn try_from(text: String) -> Result<Self, SaveEveryError> {
        text.parse()
    }
}

impl From<SaveEvery> for String {
    fn from(every: SaveEvery) -> Self {
        every.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, expected) in [
            ("30m", SaveEvery::Time(Duration::from_secs(1800))),
            ("90s", SaveEvery::Time(Duration::from_secs(90))),
            ("1.5h", SaveEvery::Time(Duration::from_secs(5400))),
            ("2000steps", SaveEvery::Steps(2000)),
            ("2000", SaveEvery::Steps(2000)),
            ("1e3", SaveEvery::Steps(1000)),
            ("1e6samples", SaveEvery::Samples(1_000_000)),
            ("250 samples", SaveEvery::Samples(250)),
        ] {
            let parsed: SaveEvery = text.parse().unwrap();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parsed.to_string().parse::<SaveEvery>().unwrap(), parsed);
        }
        for bad in ["", "0", "-5", "m", "5x", "0m", "1.5steps", "1e99samples", "nanm", "NaN", "é", "5é"] {
            assert!(bad.parse::<SaveEvery>().is_err(), "{bad}");
        }
    }

    #[test]
    fn is_due_when_a_multiple_was_passed() {
        let zero = Duration::ZERO;
        assert!(SaveEvery::Steps(10).is_due(zero, (9, 0), (10, 0)));
        assert!(!SaveEvery::Steps(10).is_due(zero, (10, 0), (11, 0)));
        assert!(SaveEvery::Samples(100).is_due(zero, (0, 96), (1, 128)));
        assert!(!SaveEvery::Samples(100).is_due(zero, (1, 128), (2, 160)));
        let half_an_hour = Duration::from_secs(1800);
        assert!(!SaveEvery::Time(half_an_hour).is_due(half_an_hour - Duration::from_nanos(1), (0, 0), (1, 8)));
        assert!(SaveEvery::Time(half_an_hour).is_due(half_an_hour, (0, 0), (1, 8)));
    }
}
