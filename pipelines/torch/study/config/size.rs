//! How many samples a set has: a number, or a share of the pool.

use serde::{Deserialize, Serialize};
use trommel_decide::percent::Percent;

/// A number of samples, or a share of those of the pool that could be judged: `50000`, `"25 %"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Size {
    /// So many samples.
    Samples(u64),
    /// So many in a hundred, rounded down.
    Share(Percent),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(0) => Err("a size of 0 samples trains nothing".into()),
            Written::Number(samples) => Ok(Self::Samples(samples)),
            Written::Text(text) => match text.strip_suffix('%').map(|number| number.trim().parse::<Percent>()) {
                Some(Ok(share)) => Ok(Self::Share(share)),
                _ => Err(format!("a size is a number of samples or a share of the pool, \"25 %\", not {text:?}")),
            },
        }
    }
}

impl From<Size> for Written {
    fn from(size: Size) -> Self {
        match size {
            Size::Samples(samples) => Self::Number(samples),
            Size::Share(share) => Self::Text(format!("{share} %")),
        }
    }
}

impl Size {
    /// Samples of a pool.
    #[must_use]
    pub fn of(self, pool: u64) -> u64 {
        match self {
            Self::Samples(samples) => samples,
            Self::Share(share) => share.of(pool),
        }
    }
}
