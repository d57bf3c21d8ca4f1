//! What stands behind a rule's word, read as what the rule wants.

use super::column::Test;
use super::percent::Percent;
use super::syntax::SyntaxError;

/// The parts of a rule that is being read.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) word: &'a str,
    pub(super) number: Option<&'a str>,
    /// The benchmarks behind the `@`.
    pub(super) names: Option<Vec<String>>,
}

impl<'a> Written<'a> {
    /// The number, which must be there.
    fn needed(&self, what: &str, letter: char) -> Result<&'a str, SyntaxError> {
        let word = self.word;
        let number = self.number.filter(|text| !text.is_empty());
        number.ok_or_else(|| format!("`{word}` needs a {what}: {word}:{letter}").into())
    }

    /// The number as a cosine.
    pub(super) fn threshold(&self) -> Result<f64, SyntaxError> {
        let text = self.needed("threshold", 'T')?;
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let value = text.parse::<f64>().ok().filter(|_| plain).ok_or(format!("threshold `{text}` is no number"))?;
        if !(-2.0..=2.0).contains(&value) {
            return Err(format!("threshold `{text}` is no cosine (those lie between -1 and 1)").into());
        }
        Ok(value)
    }

    /// A number of samples; `or` says what else might have stood there.
    pub(super) fn count(&self, or: &str) -> Result<u64, SyntaxError> {
        let text = self.needed(&format!("number{or}"), 'N')?;
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let share = if text.ends_with('%') { "; a share of them is a threshold, where:C>=T" } else { "" };
        Ok(text.parse().ok().filter(|_| digits).ok_or(format!("number `{text}` is no count of samples{share}"))?)
    }

    /// A percentage, its sign included.
    pub(super) fn percent(&self) -> Result<Percent, SyntaxError> {
        let text = self.needed("percentage", 'P')?;
        text.strip_suffix('%').unwrap_or(text).parse().map_err(SyntaxError::Percent)
    }

    /// The one column behind the `@`.
    pub(super) fn column(&self) -> Result<String, SyntaxError> {
        match self.names.as_deref() {
            Some([column]) => Ok(column.clone()),
            _ => Err(format!("`{}` needs one column: {}:N@COLUMN", self.word, self.word).into()),
        }
    }

    /// The test of a column.
    pub(super) fn test(&self) -> Result<Test, SyntaxError> {
        Ok(self.number.unwrap_or_default().parse::<Test>()?)
    }

    /// No number at all; `hint` says what was meant perhaps.
    pub(super) fn no_number(&self, hint: &str) -> Result<(), SyntaxError> {
        self.number.map_or(Ok(()), |_| Err(format!("`{}` takes no number ({hint})", self.word).into()))
    }

    /// That no benchmarks were named; else what is wrong.
    pub(super) fn no_names(&self) -> Result<(), SyntaxError> {
        let problem = || format!("`{}` looks at no benchmark, so it takes no @ list", self.word);
        if self.names.is_some() { Err(problem().into()) } else { Ok(()) }
    }
}
