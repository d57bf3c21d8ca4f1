//! How a rule is read: `WORD[:NUMBER][@B,..]`. Which words there are, and what stands behind each, says [`Form`].

use std::str::FromStr;

use super::checked_rule::RuleError;
use super::column::{Test, TestError};
use super::percent::Percent;
use super::rule::{BenchmarkNames, Form, Rule};

/// The parts of a rule that is being read.
#[derive(Debug)]
pub(super) struct Written<'a> {
    word: &'a str,
    number: Option<&'a str>,
    /// The benchmarks behind the `@`.
    pub(super) names: BenchmarkNames,
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse(text).map_err(|problem| RuleError::Syntax { rule: text.into(), problem })
    }
}

fn parse(text: &str) -> Result<Rule, String> {
    // What a column is compared with may have any sign in it.
    let raw = text.split(':').next() == Some(Form::Where.word());
    let split = text.split_once('@').filter(|_| !raw);
    let (head, names) = split.map_or((text, None), |(head, names)| (head, Some(names)));
    let (word, number) = head.split_once(':').map_or((head, None), |(word, number)| (word, Some(number)));
    let names = names.map(parse_names).transpose()?;
    let forms = || Form::ALL.iter().filter(|form| form.word() == word || form.spelling().1 == Some(word));
    // Forms of one word differ in whether they take a percentage.
    let percent = !raw && number.is_some_and(|number| number.ends_with('%'));
    match forms().find(|form| form.spelling().0.ends_with('%') == percent).or_else(|| forms().next()) {
        Some(form) => form.read(Written { word, number, names }),
        None if word.is_empty() => Err(format!("it names nothing to do; rules are {}", words())),
        None => Err(format!("unknown word `{word}`; rules are {}", words())),
    }
}

fn parse_names(list: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::<String>::new();
    for name in list.split(',') {
        if name.is_empty() {
            return Err(format!("the list after @ has an empty name: `@{list}`"));
        }
        if names.iter().any(|other| other == name) {
            return Err(format!("benchmark `{name}` stands twice in `@{list}`"));
        }
        names.push(name.into());
    }
    Ok(names)
}

impl<'a> Written<'a> {
    /// The number, which must be there.
    fn needed(&self, what: &str, letter: char) -> Result<&'a str, String> {
        let word = self.word;
        self.number.filter(|text| !text.is_empty()).ok_or_else(|| format!("`{word}` needs a {what}: {word}:{letter}"))
    }

    /// The number as a cosine.
    pub(super) fn threshold(&self) -> Result<f64, String> {
        let text = self.needed("threshold", 'T')?;
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let value = text.parse::<f64>().ok().filter(|_| plain).ok_or(format!("threshold `{text}` is no number"))?;
        if !(-2.0..=2.0).contains(&value) {
            return Err(format!("threshold `{text}` is no cosine (those lie between -1 and 1)"));
        }
        Ok(value)
    }

    /// A number of samples; `or` says what else might have stood there.
    pub(super) fn count(&self, or: &str) -> Result<u64, String> {
        let text = self.needed(&format!("number{or}"), 'N')?;
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or(format!("number `{text}` is no count of samples"))
    }

    /// A percentage, its sign included.
    pub(super) fn percent(&self) -> Result<Percent, String> {
        let text = self.needed("percentage", 'P')?;
        text.strip_suffix('%').unwrap_or(text).parse().map_err(|error| format!("percentage {error}"))
    }

    /// The one column behind the `@`.
    pub(super) fn column(&self) -> Result<String, String> {
        match self.names.as_deref() {
            Some([column]) => Ok(column.clone()),
            _ => Err(format!("`{}` needs one column: {}:N@COLUMN", self.word, self.word)),
        }
    }

    /// The test of a column.
    pub(super) fn test(&self) -> Result<Test, String> {
        self.number.unwrap_or_default().parse().map_err(|error: TestError| error.to_string())
    }

    /// No number at all; `hint` says what was meant perhaps.
    pub(super) fn no_number(&self, hint: &str) -> Result<(), String> {
        self.number.map_or(Ok(()), |_| Err(format!("`{}` takes no number ({hint})", self.word)))
    }

    /// That no benchmarks were named; else what is wrong.
    pub(super) fn no_names(&self) -> Result<(), String> {
        let problem = || format!("`{}` looks at no benchmark, so it takes no @ list", self.word);
        if self.names.is_some() { Err(problem()) } else { Ok(()) }
    }
}

impl Form {
    /// The rule's word, without number and names.
    #[must_use]
    pub fn word(self) -> &'static str {
        let spelling = self.spelling().0;
        spelling.split_once(':').map_or(spelling, |(word, _)| word)
    }

    /// A rule of this form, of all benchmarks.
    ///
    /// # Errors
    /// None, as the tests show.
    pub fn example(self) -> Result<Rule, RuleError> {
        self.spelling().0.replace('T', "0.9").replace('P', "50").replace('N', "1000").parse()
    }
}

/// The forms of some rules, as `--help` tells them.
#[must_use]
pub fn forms(of: impl Fn(&Rule) -> bool) -> String {
    let some = Form::ALL.iter().filter_map(|form| form.example().ok().filter(|rule| of(rule)));
    let mut looks = false;
    let spelling = some.map(|rule| {
        // What may stand behind a word is told once.
        let first = rule.policy().needs_embeddings() && !std::mem::replace(&mut looks, true);
        format!("{}{}", rule.form().spelling().0, if first { "[@B,..]" } else { "" })
    });
    spelling.collect::<Vec<_>>().join(", ")
}

/// All words with their aliases, for whoever has written another one.
fn words() -> String {
    let of_a_word = |forms: &[Form]| {
        let spelling: Vec<&str> = forms.iter().map(|form| form.spelling().0).collect();
        let alias = forms[0].spelling().1.map_or(String::new(), |alias| format!(" ({alias})"));
        format!("{}{alias}", spelling.join(" or "))
    };
    Form::ALL.chunk_by(|a, b| a.word() == b.word()).map(of_a_word).collect::<Vec<_>>().join(", ")
}
