//! What open_clip does to a caption before it is split: ftfy, HTML unescaped twice, white space folded, lower case.
//!
//! ftfy is the crate `plsfix`, a port of it; a caption of printable ASCII without `&` is the same after ftfy and skips
//! it. The differences that are mended here: `html.unescape` is Python's (names without a semicolon, longest prefix,
//! Windows-1252 for 128..=159), Python folds the separators U+001C..=U+001F as white space, and terminal escapes go before
//! the port takes their first character away.
//!
//! The port is quadratic in places and may panic, so captions are cut to 32 KiB before anything else, and a panic in it
//! leaves the caption as it was: a hostile caption costs milliseconds and stops nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::catch_unwind;
use std::sync::LazyLock;

use regex::Regex;

/// A caption is cut here, in bytes. 77 tokens end long before.
pub const MAX_CAPTION_BYTES: usize = 32 << 10;

/// Longest name of a character, semicolon left out.
const MAX_NAME_CHARS: usize = 32;

/// What browsers and Python read for the numbers 128..=159.
const WINDOWS_1252: [u16; 32] = [
    0x20ac, 0x81, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8d, 0x017d,
    0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,
    0x017e, 0x0178,
];

/// HTML's named characters: `name`, or `name;`, to one or two characters.
static ENTITIES: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    include_str!("entities.txt")
        .lines()
        .filter_map(|line| {
            let (name, points) = line.split_once(' ')?;
            let text = points.split(' ').filter_map(|p| char::from_u32(u32::from_str_radix(p, 16).ok()?)).collect();
            Some((name, text))
        })
        .collect()
});

/// The cleaned caption.
#[must_use]
pub fn clean(caption: &str) -> String {
    let caption = &caption[..caption.floor_char_boundary(MAX_CAPTION_BYTES)];
    let fixed = if is_plain(caption) { Cow::Borrowed(caption) } else { Cow::Owned(fix(caption)) };
    let text = unescape(&unescape(&fixed)).into_owned();
    let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_lowercase()
}

/// Printable ASCII and white space without `&`: ftfy has nothing to mend.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\n' | b'\r') && b != b'&')
}

/// ESC `[` 31 `m` and its like.
static TERMINAL_ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").expect("the pattern is a constant"));

fn fix(text: &str) -> String {
    let text = &*TERMINAL_ESCAPE.replace_all(text, "");
    catch_unwind(|| plsfix::fix_text(text, None)).unwrap_or_else(|_| text.into())
}

/// White space as Python's `str.split` sees it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Python's `html.unescape`.
#[must_use]
pub fn unescape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find('&') else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(after) = rest.strip_prefix('&') {
        let used = if let Some(number) = after.strip_prefix('#') {
            numbered(number, &mut out).map(|used| used + 1)
        } else {
            named(after, &mut out)
        };
        rest = match used {
            Some(used) => &after[used..],
            None => {
                out.push('&');
                after
            }
        };
        let next = rest.find('&').unwrap_or(rest.len());
        out.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Cow::Owned(out)
}

/// After `&#`: pushes the character; bytes used.
fn numbered(text: &str, out: &mut String) -> Option<usize> {
    let (prefix, radix) = if text.starts_with(['x', 'X']) { (1, 16) } else { (0, 10) };
    let digits = text[prefix..].bytes().take_while(|b| char::from(*b).is_digit(radix)).count();
    if digits == 0 {
        return None;
    }
    let number = text[prefix..prefix + digits]
        .chars()
        .filter_map(|c| c.to_digit(radix))
        .fold(0u32, |n, digit| n.saturating_mul(radix).saturating_add(digit));
    match number {
        0 => out.push('\u{fffd}'),
        0x0d => out.push('\r'),
        0x80..=0x9f => out.extend(char::from_u32(WINDOWS_1252[(number - 0x80) as usize].into())),
        1..=8 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => {}
        _ if number <= 0x10_ffff && number & 0xfffe == 0xfffe => {}
        _ => out.push(char::from_u32(number).unwrap_or('\u{fffd}')),
    }
    let semicolon = usize::from(text[prefix + digits..].starts_with(';'));
    Some(prefix + digits + semicolon)
}

/// After `&`: pushes the longest known name's characters; bytes used.
fn named(text: &str, out: &mut String) -> Option<usize> {
    let ends = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let mut bounds: Vec<usize> = text
        .char_indices()
        .take(MAX_NAME_CHARS)
        .take_while(|(_, c)| !ends(*c))
        .map(|(at, c)| at + c.len_utf8())
        .collect();
    let name_end = *bounds.last()?;
    if text[name_end..].starts_with(';') {
        bounds.push(name_end + 1);
    }
    let whole = bounds.len();
    // The whole match may be one character long, a prefix of it may not.
    bounds.into_iter().enumerate().rev().filter(|(i, _)| i + 1 == whole || *i > 0).find_map(|(_, end)| {
        out.push_str(ENTITIES.get(&text[..end])?);
        Some(end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values by Python's `html.unescape`.
    #[test]
    fn unescape_is_pythons() {
        for (text, expected) in [
            ("no entity", "no entity"),
            ("&amp;&lt;&gt", "&<>"),
            ("&notit; &notin; &not", "\u{ac}it; \u{2209} \u{ac}"),
            ("&#146;&#x92;&#8217", "\u{2019}\u{2019}\u{2019}"),
            ("&#0; &#xD800; &#x110000; &#99999999999999;", "\u{fffd} \u{fffd} \u{fffd} \u{fffd}"),
            ("&#1;&#xfffe;&#x1ffff;|", "|"),
            ("& &; &# &#; &#x; &unknown; &&amp;", "& &; &# &#; &#x; &unknown; &&"),
            ("&EACUTE;&eacute", "&EACUTE;\u{e9}"),
            ("&\u{e9}t\u{e9};&copyright", "&\u{e9}t\u{e9};\u{a9}right"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn hostile_captions_end_soon() {
        for text in [
            "\u{e2}\u{80}".repeat(100_000),
            "&".repeat(1 << 20),
            "\u{65e5}".repeat(1 << 18),
            "a\u{301}".repeat(1 << 18),
        ] {
            assert!(clean(&text).len() <= 4 * MAX_CAPTION_BYTES);
        }
    }
}
