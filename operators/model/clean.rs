//! What open_clip does to a caption before it is split: ftfy, HTML unescaped twice, white space folded, lower case.

use plsfix::fix_text;

/// The cleaned caption.
#[must_use]
pub fn clean(caption: &str) -> String {
    let fixed = fix_text(caption, None);
    let words: Vec<&str> = fixed.split_whitespace().collect();
    words.join(" ").to_lowercase()
}
