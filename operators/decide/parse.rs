//! How a rule is read: `WORD[:NUMBER][@B,..]`. Which words there are, and what stands behind each, says [`Form`].

use std::str::FromStr;

use super::checked_rule::RuleError;
use super::rule::{Form, Rule};
use super::syntax::SyntaxError;
use super::written::Written;

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse(text).map_err(|problem| RuleError::Syntax { rule: text.into(), problem })
    }
}

/// A rule, or what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Rule, SyntaxError> {
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
        None if word.is_empty() => Err(format!("it names nothing to do; rules are {}", words()).into()),
        None => Err(format!("unknown word `{word}`; rules are {}", words()).into()),
    }
}

fn parse_names(list: &str) -> Result<Vec<String>, SyntaxError> {
    let mut names = Vec::<String>::new();
    for name in list.split(',') {
        if name.is_empty() {
            return Err(format!("the list after @ has an empty name: `@{list}`").into());
        }
        if names.iter().any(|other| other == name) {
            return Err(format!("benchmark `{name}` stands twice in `@{list}`").into());
        }
        names.push(name.into());
    }
    Ok(names)
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
        let spelling = forms.iter().map(|form| form.spelling().0).collect::<Vec<_>>().join(" or ");
        // With what stands behind it: an alias may look as if it had a number in it.
        let alias = forms[0].spelling().1.map(|alias| spelling.replace(forms[0].word(), alias));
        alias.map_or(spelling.clone(), |alias| format!("{spelling} ({alias})"))
    };
    Form::ALL.chunk_by(|a, b| a.word() == b.word()).map(of_a_word).collect::<Vec<_>>().join(", ")
}
