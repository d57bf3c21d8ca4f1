//! How a selection is read.

use std::str::FromStr;

use trommel_core::names::is_name;

use super::Selection;
use crate::checked_rule::RuleError;
use crate::parse::parse;
use crate::rule::Rule;
use crate::syntax::SyntaxError;

/// Rules and operations that a selection may have, those behind its names included; and terms that stand in each other.
const MAX_SIZE: usize = 20_000;
const MAX_DEPTH: usize = 100;
/// Letters of a text.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Words of the language itself.
const WORDS: [&str; 7] = ["and", "or", "minus", "not", "per", "by", "of"];

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    /// Of the language itself.
    Word(&'static str),
    /// A rule, a name, a column.
    Text(String),
}

/// Selections by their names, each `[NAME=]EXPR`, in the order written; one without a name is called by an empty one. Later ones may name earlier ones.
///
/// # Errors
/// A text that cannot be read, a name twice, or one that cannot be told from a rule.
pub fn named<T: AsRef<str>>(texts: &[T]) -> Result<Vec<(String, Selection)>, RuleError> {
    let mut known: Vec<(String, Selection)> = Vec::new();
    for text in texts {
        let text = text.as_ref();
        let bad = |problem: SyntaxError| RuleError::Syntax { rule: text.into(), problem };
        let (name, expr) = match text.split_once('=').filter(|(name, _)| is_name(name)) {
            Some((name, expr)) => (name, expr),
            None => ("", text),
        };
        if known.iter().any(|(other, _)| other == name) {
            return Err(bad(SyntaxError::Part(match name {
                "" => "of several rules each needs a name: NAME=RULE".into(),
                twice => format!("the name `{twice}` is given twice"),
            })));
        }
        if WORDS.contains(&name) || name.parse::<Rule>().is_ok() {
            return Err(bad(format!("`{name}` is a rule, or a word of them, and no name").into()));
        }
        let selection = read(expr, &known).map_err(bad)?;
        known.push((name.into(), selection));
    }
    Ok(known)
}

impl FromStr for Selection {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        read(text, &[]).map_err(|problem| RuleError::Syntax { rule: text.into(), problem })
    }
}

fn read(text: &str, known: &[(String, Selection)]) -> Result<Selection, SyntaxError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("{} bytes of text, above the limit of {MAX_TEXT_BYTES}", text.len()).into());
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { left: &tokens, known, size: 0, depth: 0 };
    let selection = parser.expr()?;
    match parser.left.first() {
        None => Ok(selection),
        Some(Token::Close) => Err(SyntaxError::Part("a `)` without its `(`".into())),
        Some(more) => Err(format!("`{}` stands where `and`, `or`, `minus` or the end is due", more.shown()).into()),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut tokens = Vec::new();
    let (mut word, mut quote, mut was_quoted) = (String::new(), None, false);
    let end = |word: &mut String, was_quoted: &mut bool, tokens: &mut Vec<Token>| {
        let own = WORDS.iter().find(|own| **own == word.as_str() && !*was_quoted);
        match own {
            Some(own) => tokens.push(Token::Word(own)),
            None if !word.is_empty() || *was_quoted => tokens.push(Token::Text(word.clone())),
            None => {}
        }
        word.clear();
        *was_quoted = false;
    };
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, was_quoted) = (Some(c), true),
            (None, '(' | ')') => {
                end(&mut word, &mut was_quoted, &mut tokens);
                tokens.push(if c == '(' { Token::Open } else { Token::Close });
            }
            (None, c) if c.is_whitespace() => end(&mut word, &mut was_quoted, &mut tokens),
            (None, c) => word.push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a {open} without its end").into());
    }
    end(&mut word, &mut was_quoted, &mut tokens);
    Ok(tokens)
}

/// A word as it must be written to be read as one text.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| !(c.is_whitespace() || "'\"()".contains(c));
    if !word.is_empty() && word.chars().all(plain) && !WORDS.contains(&word) {
        return word.into();
    }
    // What has both quotes in it is written in pieces.
    let pieces = word.split('\'').map(|piece| format!("'{piece}'")).collect::<Vec<_>>();
    pieces.join("\"'\"")
}

impl Token {
    fn shown(&self) -> &str {
        match self {
            Self::Open => "(",
            Self::Close => ")",
            Self::Word(word) => word,
            Self::Text(text) => text,
        }
    }
}

struct Parser<'a> {
    left: &'a [Token],
    known: &'a [(String, Selection)],
    size: usize,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = matches!(self.left.first(), Some(Token::Word(own)) if *own == word);
        if found {
            self.left = &self.left[1..];
        }
        found
    }

    fn grow(&mut self, by: usize) -> Result<(), SyntaxError> {
        self.size += by;
        if self.size > MAX_SIZE { Err(format!("more than {MAX_SIZE} rules and operations").into()) } else { Ok(()) }
    }

    fn deep(&self, depth: usize) -> Result<(), SyntaxError> {
        if depth > MAX_DEPTH { Err(format!("more than {MAX_DEPTH} terms stand in each other").into()) } else { Ok(()) }
    }

    fn expr(&mut self) -> Result<Selection, SyntaxError> {
        let mut parts = vec![self.term()?];
        let mut first = None;
        while let Some(word) = ["and", "or", "minus"].into_iter().find(|word| self.take(word)) {
            if *first.get_or_insert(word) != word {
                return Err(format!(
                    "`{word}` beside `{}`: parentheses say which comes first",
                    first.unwrap_or_default()
                )
                .into());
            }
            self.grow(1)?;
            parts.push(self.term()?);
        }
        Ok(match first {
            Some("and") => Selection::And(parts),
            Some("or") => Selection::Or(parts),
            Some(_) => Selection::Minus(parts),
            None => parts.swap_remove(0),
        })
    }

    fn term(&mut self) -> Result<Selection, SyntaxError> {
        self.depth += 1;
        self.deep(self.depth)?;
        let term = self.inner();
        self.depth -= 1;
        term
    }

    fn inner(&mut self) -> Result<Selection, SyntaxError> {
        if self.take("not") {
            self.grow(1)?;
            return Ok(Selection::Not(Box::new(self.term()?)));
        }
        let Some((token, rest)) = self.left.split_first() else {
            return Err(SyntaxError::Part("a rule or a name is due at the end".into()));
        };
        self.left = rest;
        let text = match token {
            Token::Open => {
                let inner = self.expr()?;
                let Some((Token::Close, rest)) = self.left.split_first() else {
                    return Err(SyntaxError::Part("a `(` without its `)`".into()));
                };
                self.left = rest;
                return Ok(inner);
            }
            Token::Text(text) => text,
            Token::Close | Token::Word(_) => {
                return Err(format!("`{}` stands where a rule or a name is due", token.shown()).into());
            }
        };
        if let Some((_, selection)) = self.known.iter().find(|(name, _)| name == text) {
            self.grow(selection.size())?;
            self.deep(self.depth - 1 + selection.depth())?;
            return Ok(selection.clone());
        }
        self.grow(1)?;
        self.rule(text)
    }

    fn rule(&mut self, text: &str) -> Result<Selection, SyntaxError> {
        let rule = parse(text).map_err(|problem| SyntaxError::Term {
            rule: text.into(),
            problem: Box::new(problem),
            names: self.known.iter().map(|(name, _)| name.clone()).collect(),
        })?;
        let mut per = None;
        if self.take("per") {
            let Some((Token::Text(column), rest)) = self.left.split_first() else {
                return Err(format!("a column is due after `{text} per`").into());
            };
            if rule.policy().first().is_none() {
                return Err(format!("`{text} per {column}`: only an exact number can be kept of each {column}").into());
            }
            (per, self.left) = (Some(column.clone()), rest);
        }
        let mut by = None;
        if self.take("by") {
            let Some((Token::Text(column), rest)) = self.left.split_first() else {
                return Err(format!("a column is due after `{text} .. by`").into());
            };
            if per.is_none() {
                return Err(format!(
                    "`{text} by {column}`: a number is dealt to the values of a column: {text} per COLUMN by {column}"
                )
                .into());
            }
            (by, self.left) = (Some(column.clone()), rest);
        }
        let of = if self.take("of") { Some(Box::new(self.term()?)) } else { None };
        Ok(Selection::Rule { rule, per, by, of })
    }
}
