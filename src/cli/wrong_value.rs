//! What is wrong with the value of a flag, of a variable, or in a line of a hostfile.

/// Why a text is not what was asked for, or how it is written. Who asked puts the name of the flag before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongValue(String);

impl From<String> for WrongValue {
    fn from(words: String) -> Self {
        Self(words)
    }
}

impl From<&str> for WrongValue {
    fn from(words: &str) -> Self {
        Self(words.into())
    }
}
