//! A test of one column of a finished ledger, or of a table joined to it: `COLUMN OP VALUE`.
//!
//! | written | holds iff the value |
//! |---|---|
//! | `C>T`, `C>=T`, `C<T`, `C<=T` | is a number on that side of T; a missing value, and NaN, never is |
//! | `C=V`, `C!=V` | is V, or is not: texts as they are, numbers by their value; a missing value is not V |
//! | `C~WORDS` | is a text in which the words stand one after the other, whole, whatever their case |
//!
//! ```
//! use trommel_decide::column::{Cell, Test};
//! let test: Test = "caption~golden retriever".parse().unwrap();
//! assert!(test.holds(Cell::Text("My Golden  Retriever, asleep")) && !test.holds(Cell::Text("golden retrievers")));
//! let test: Test = "reason!=no_caption".parse().unwrap();
//! assert!(test.holds(Cell::Missing) && !test.holds(Cell::Text("no_caption")));
//! assert_eq!("aesthetic>=high".parse::<Test>().unwrap_err().to_string(), "`high` is no number, and `>=` compares numbers");
//! ```

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A value of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// The row has a null there, or NaN.
    Missing,
    /// A number, in f64 and never NaN.
    Number(f64),
    /// A text, in UTF-8.
    Text(&'a str),
}

impl<'a> Cell<'a> {
    /// The number, where it is one.
    #[must_use]
    pub const fn number(self) -> Option<f64> {
        match self {
            Self::Number(x) => Some(x),
            Self::Missing | Self::Text(_) => None,
        }
    }

    /// The value as a label: a number as it is written shortest, both zeros alike.
    #[must_use]
    pub fn label(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Missing => None,
            Self::Number(x) => Some((x + 0.0).to_string().into()),
            Self::Text(text) => Some(text.into()),
        }
    }
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `>=`, of numbers.
    From,
    /// `<=`, of numbers.
    UpTo,
    /// `!=`, of numbers or texts.
    Not,
    /// `>`, of numbers.
    Above,
    /// `<`, of numbers.
    Below,
    /// `=`, of numbers or texts.
    Is,
    /// `~`: the text contains the words.
    Says,
}

/// A column, and what its value is compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// The column's name.
    pub column: String,
    /// How its value is compared.
    pub compare: Compare,
    value: String,
    /// The value as a number, where it is one.
    number: Option<f64>,
}

impl Compare {
    /// Longer signs first: `>` begins `>=`.
    const ALL: [Self; 7] = [Self::From, Self::UpTo, Self::Not, Self::Above, Self::Below, Self::Is, Self::Says];

    /// As it is written.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::From => ">=",
            Self::UpTo => "<=",
            Self::Not => "!=",
            Self::Above => ">",
            Self::Below => "<",
            Self::Is => "=",
            Self::Says => "~",
        }
    }

    /// Whether it asks for numbers.
    #[must_use]
    pub const fn needs_number(self) -> bool {
        match self {
            Self::From | Self::UpTo | Self::Above | Self::Below => true,
            Self::Not | Self::Is | Self::Says => false,
        }
    }

    /// Whether it asks for texts.
    #[must_use]
    pub const fn needs_text(self) -> bool {
        match self {
            Self::Says => true,
            Self::From | Self::UpTo | Self::Above | Self::Below | Self::Not | Self::Is => false,
        }
    }
}

impl Test {
    /// The same test of another column.
    #[must_use]
    pub fn of_column(&self, column: String) -> Self {
        Self { column, ..self.clone() }
    }

    /// What it compares with, where that is no number: none of a column of numbers is it.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        self.number.is_none().then_some(self.value.as_str())
    }

    /// Whether a value passes.
    #[must_use]
    pub fn holds(&self, cell: Cell<'_>) -> bool {
        let is = match cell {
            Cell::Missing => false,
            Cell::Number(x) => self.number == Some(x),
            Cell::Text(text) => text == self.value,
        };
        let compared =
            |passes: fn(f64, f64) -> bool| cell.number().zip(self.number).is_some_and(|(x, with)| passes(x, with));
        match self.compare {
            Compare::From => compared(|x, with| x >= with),
            Compare::UpTo => compared(|x, with| x <= with),
            Compare::Above => compared(|x, with| x > with),
            Compare::Below => compared(|x, with| x < with),
            Compare::Is => is,
            Compare::Not => !is,
            Compare::Says => match cell {
                Cell::Text(text) => says(text, &self.value),
                Cell::Missing | Cell::Number(_) => false,
            },
        }
    }
}

/// The words of a text: runs of letters and digits, in lower case.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn says(text: &str, wanted: &str) -> bool {
    let (text, wanted) = (words(text), words(wanted));
    text.windows(wanted.len()).any(|some| some == wanted)
}

/// What is no test of a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// No sign of a comparison.
    #[error("`{0}` compares nothing: write COLUMN>=NUMBER or COLUMN=VALUE")]
    NoComparison(String),
    /// Nothing before the sign.
    #[error("`{0}` names no column")]
    NoColumn(String),
    /// Numbers are compared, and this is none.
    #[error("`{value}` is no number, and `{sign}` compares numbers")]
    NoNumber {
        /// What stands behind the sign.
        value: String,
        /// The sign of the comparison.
        sign: &'static str,
    },
    /// Words are compared, and here is none.
    #[error("`{0}` has no word that a text could say")]
    NoWord(String),
}

impl FromStr for Test {
    type Err = TestError;

    fn from_str(text: &str) -> Result<Self, TestError> {
        let signs = Compare::ALL.into_iter().filter_map(|compare| Some((text.find(compare.sign())?, compare)));
        // The first sign counts; of two that begin there, the longer one.
        let found = signs.min_by_key(|(at, compare)| (*at, std::cmp::Reverse(compare.sign().len())));
        let (at, compare) = found.ok_or_else(|| TestError::NoComparison(text.to_owned()))?;
        let (column, value) = (&text[..at], &text[at + compare.sign().len()..]);
        if column.is_empty() {
            return Err(TestError::NoColumn(text.to_owned()));
        }
        let number = value.parse::<f64>().ok().filter(|x| x.is_finite());
        if compare.needs_number() && number.is_none() {
            return Err(TestError::NoNumber { value: value.to_owned(), sign: compare.sign() });
        }
        if compare.needs_text() && words(value).is_empty() {
            return Err(TestError::NoWord(value.to_owned()));
        }
        Ok(Self { column: column.into(), compare, value: value.into(), number })
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.column, self.compare.sign(), self.value)
    }
}
