//! What is wrong with the text of a rule, or of a selection of rules.

use super::column::TestError;
use super::percent::PercentError;

/// Why a text is no rule. Displayed, it says which part is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// The parser's own word of a part that is missing, unknown, or one too many.
    #[error("{0}")]
    Part(String),
    /// The share of a rule.
    #[error("percentage {0}")]
    Percent(PercentError),
    /// The test of a column.
    #[error(transparent)]
    Test(#[from] TestError),
    /// One rule of a selection.
    #[error("`{rule}`: {problem}{}", earlier(names))]
    Term {
        /// The rule as the user wrote it.
        rule: String,
        /// What is wrong with it.
        problem: Box<Self>,
        /// Names that might have stood there instead.
        names: Vec<String>,
    },
}

impl From<String> for SyntaxError {
    fn from(words: String) -> Self {
        Self::Part(words)
    }
}

fn earlier(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; earlier names are {}", names.join(", ")) }
}
