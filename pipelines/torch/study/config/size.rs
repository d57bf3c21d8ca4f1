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

/// Why a text is no size of a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The size of a set would be no samples.
    #[error("a size of 0 samples trains nothing")]
    Nothing,
    /// Neither a number nor a share.
    #[error("a size is a number of samples or a share of the pool, \"25 %\", not {0:?}")]
    NoSize(String),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = SizeError;

    fn try_from(written: Written) -> Result<Self, SizeError> {
        match written {
            Written::Number(0) => Err(SizeError::Nothing),
            Written::Number(samples) => Ok(Self::Samples(samples)),
            Written::Text(text) => match text.strip_suffix('%').map(|number| number.trim().parse::<Percent>()) {
                Some(Ok(share)) => Ok(Self::Share(share)),
                Some(Err(_)) | None => Err(SizeError::NoSize(text)),
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
