//! Brace expansion as the field's tools do it: `{000..003}`, `{0..10..5}`, `{a,b}`, nested.
//!
//! - A number written with a leading zero pads all numbers of its range to the longer of the two ends.
//! - Ranges run either way; a step's sign does not matter, and a step of 0 counts as 1.
//! - `{x}` without comma or range is literal, braces and all: `{00000000}` stays as it is, what is inside is expanded.
//! - A backslash takes the meaning from the character behind it; braces that do not balance are an error.
//!
//! ```
//! use trommel_shard::braces::expand;
//! assert_eq!(expand("a{08..10}.tar", 100).expect("balanced"), ["a08.tar", "a09.tar", "a10.tar"]);
//! ```

/// Why a pattern cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BraceError {
    /// An opening brace without a closing one, or the reverse.
    #[error("braces do not balance in {0:?}")]
    Unbalanced(String),
    /// More names than anyone means.
    #[error("{0:?} stands for more than {1} names")]
    TooMany(String, usize),
}

/// All names that `pattern` stands for, in order; at most `limit`.
///
/// # Errors
/// Unbalanced braces, or more names than `limit`.
pub fn expand(pattern: &str, limit: usize) -> Result<Vec<String>, BraceError> {
    let chars: Vec<char> = pattern.chars().collect();
    if !balanced(&chars) {
        return Err(BraceError::Unbalanced(pattern.into()));
    }
    let names = sequence(&chars, limit, 0).ok_or_else(|| BraceError::TooMany(pattern.into(), limit))?;
    Ok(names.into_iter().map(|name| unescape(&name)).collect())
}

/// `text` without the backslashes that took a character's meaning.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next().or(Some('\\'))),
            c => out.push(c),
        }
    }
    out
}

const MAX_DEPTH: usize = 64;

fn balanced(chars: &[char]) -> bool {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' => at += 1,
            '{' => depth += 1,
            '}' if depth == 0 => return false,
            '}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    depth == 0
}

/// Expands literals and brace groups one after the other; `None` when the names are too many or nested too deep.
fn sequence(chars: &[char], limit: usize, depth: usize) -> Option<Vec<String>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut names = vec![String::new()];
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' => {
                let piece: String = chars.iter().skip(at).take(2).collect();
                names.iter_mut().for_each(|name| name.push_str(&piece));
                at += 2;
            }
            '{' => {
                let close = closing(chars, at)?;
                let inner = &chars[at + 1..close];
                let choices = match group(inner, limit, depth + 1)? {
                    Some(choices) => choices,
                    None => sequence(inner, limit, depth + 1)?.into_iter().map(|s| format!("{{{s}}}")).collect(),
                };
                if names.len().saturating_mul(choices.len()) > limit {
                    return None;
                }
                names = names.iter().flat_map(|name| choices.iter().map(move |c| format!("{name}{c}"))).collect();
                at = close + 1;
            }
            c => {
                names.iter_mut().for_each(|name| name.push(c));
                at += 1;
            }
        }
    }
    Some(names)
}

fn closing(chars: &[char], open: usize) -> Option<usize> {
    let (mut depth, mut at) = (0usize, open);
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' => at += 1,
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The choices of one group; `Some(None)` when it is neither range nor list.
#[allow(clippy::option_option)]
fn group(inner: &[char], limit: usize, depth: usize) -> Option<Option<Vec<String>>> {
    let text: String = inner.iter().collect();
    if let Some(range) = Range::parse(&text) {
        return range.names(limit).map(Some);
    }
    let (mut parts, mut start, mut level, mut at) = (Vec::new(), 0, 0usize, 0);
    while let Some(&c) = inner.get(at) {
        match c {
            '\\' => at += 1,
            '{' => level += 1,
            '}' => level = level.checked_sub(1)?,
            ',' if level == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if parts.is_empty() {
        return Some(None);
    }
    parts.push(&inner[start..]);
    let mut names = Vec::new();
    for part in parts {
        names.extend(sequence(part, limit, depth)?);
        if names.len() > limit {
            return None;
        }
    }
    Some(Some(names))
}

struct Range {
    from: i64,
    to: i64,
    step: u64,
    width: usize,
    letters: bool,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split("..");
        let (from, to, step) = (parts.next()?, parts.next()?, parts.next());
        if parts.next().is_some() {
            return None;
        }
        let step = match step {
            None => 1,
            Some(step) => digits(step.strip_prefix('-').unwrap_or(step))?.max(1).unsigned_abs(),
        };
        if let (Some(from), Some(to)) = (letter(from), letter(to)) {
            return Some(Self { from, to, step, width: 0, letters: true });
        }
        let padded = |s: &str| !matches!(s, "0" | "-0") && (s.starts_with('0') || s.starts_with("-0"));
        let width = if padded(from) || padded(to) { from.len().max(to.len()) } else { 0 };
        Some(Self { from: number(from)?, to: number(to)?, step, width, letters: false })
    }

    fn names(&self, limit: usize) -> Option<Vec<String>> {
        let count = self.from.abs_diff(self.to) / self.step;
        if count >= limit as u64 {
            return None;
        }
        let step = i64::try_from(self.step).unwrap_or(i64::MAX);
        let step = if self.from <= self.to { step } else { -step };
        let mut names = Vec::new();
        let mut value = self.from;
        for _ in 0..=count {
            names.push(if self.letters {
                letter_at(value).to_string()
            } else {
                format!("{value:0width$}", width = self.width)
            });
            value = value.saturating_add(step);
        }
        Some(names)
    }
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(rest) => digits(rest).map(|n| -n),
        None => digits(text),
    }
}

/// Letters are numbered A-Z, then a-z, so that a mixed range holds no punctuation.
fn letter(text: &str) -> Option<i64> {
    match text.as_bytes() {
        [c @ b'A'..=b'Z'] => Some(i64::from(c - b'A')),
        [c @ b'a'..=b'z'] => Some(i64::from(c - b'a') + 26),
        _ => None,
    }
}

fn letter_at(value: i64) -> char {
    let value = u8::try_from(value.clamp(0, 51)).unwrap_or(0);
    char::from(if value < 26 { b'A' + value } else { b'a' + value - 26 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let cases: &[(&str, &[&str])] = &[
            ("a.tar", &["a.tar"]),
            ("{1..3}", &["1", "2", "3"]),
            ("{4..1}", &["4", "3", "2", "1"]),
            ("{2..-1}", &["2", "1", "0", "-1"]),
            ("{000..002}", &["000", "001", "002"]),
            ("{07..10}", &["07", "08", "09", "10"]),
            ("{7..010}", &["007", "008", "009", "010"]),
            ("{-01..1}", &["-01", "000", "001"]),
            ("{0..10..5}", &["0", "5", "10"]),
            ("{10..0..-5}", &["10", "5", "0"]),
            ("{0..3..0}", &["0", "1", "2", "3"]),
            ("{a..g..2}", &["a", "c", "e", "g"]),
            ("{Y..b}", &["Y", "Z", "a", "b"]),
            ("x{,.backup}", &["x", "x.backup"]),
            ("p{2.{5..7},3.{2,3}}", &["p2.5", "p2.6", "p2.7", "p3.2", "p3.3"]),
            ("{a,b}{0..1}", &["a0", "a1", "b0", "b1"]),
            ("{00000000}.tar", &["{00000000}.tar"]),
            ("{x{1,2}}", &["{x1}", "{x2}"]),
            ("{}", &["{}"]),
            ("{1..x}", &["{1..x}"]),
            (r"{1\{2,3}", &["1{2", "3"]),
            (r"a\\b", &[r"a\b"]),
            ("{a,b", &[]),
            ("a}", &[]),
            ("{1{2,3}", &[]),
            ("}{", &[]),
        ];
        for (pattern, wanted) in cases {
            match expand(pattern, 1000) {
                Ok(names) => assert_eq!(&names, wanted, "{pattern}"),
                Err(error) => {
                    assert!(wanted.is_empty(), "{pattern}: {error}");
                    assert_eq!(error, BraceError::Unbalanced((*pattern).into()));
                }
            }
        }
    }

    #[test]
    fn too_many_is_an_error_and_costs_nothing() {
        for pattern in
            ["{0..9223372036854775807}", "{0..99}{0..99}{0..99}", "{-9223372036854775807..9223372036854775807}"]
        {
            assert!(matches!(expand(pattern, 1000), Err(BraceError::TooMany(..))), "{pattern}");
        }
        assert!(expand(&"{".repeat(5000), 10).is_err());
        assert!(expand(&format!("{}{}", "{a,".repeat(500), "}".repeat(500)), 10).is_err());
    }
}
