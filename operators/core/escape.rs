//! Text of strangers where a terminal shows it. Keys, URLs, captions, file names and what other programs say may hold anything;
//! a control character in them could move the cursor, change a title, or put a line where ours stood.

use std::borrow::Cow;

/// `text` in one line, its control characters (C0, DEL, C1, line ends too) as `\n`, `\u{1b}`, ...
///
/// ```
/// use trommel_core::escape::escape_controls;
///
/// assert_eq!(escape_controls("a\u{1b}[2Jb\u{9b}c\r\n"), "a\\u{1b}[2Jb\\u{9b}c\\r\\n");
/// assert_eq!(escape_controls("schön \\ 好"), "schön \\ 好");
/// ```
#[must_use]
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    escape(text, char::is_control, |c| c.escape_default().to_string())
}

/// As [`escape_controls`], and line ends stay: for a text that has lines of its own.
#[must_use]
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() && c != '\n', |c| c.escape_default().to_string())
}

/// JSON text with the control characters that JSON allows in strings (DEL, C1) as JSON escapes: the value is the same.
///
/// ```
/// use trommel_core::escape::escape_json;
///
/// assert_eq!(escape_json("{\"key\":\"a\u{9b}2J\"}"), "{\"key\":\"a\\u009b2J\"}");
/// ```
#[must_use]
pub fn escape_json(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() && c >= '\u{7f}', |c| format!("\\u{:04x}", c as u32))
}

fn escape(text: &str, wants: impl Fn(char) -> bool, as_text: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&wants) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| if wants(c) { as_text(c) } else { c.to_string() });
    Cow::Owned(escaped.collect())
}
