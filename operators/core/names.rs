//! Names that people give: benchmarks, rules, shards of a list, sets.

/// What stands for standard input where shards are named, and is its shard's name.
pub const STDIN: &str = "-";

/// Letters, digits, `_`, `.` and `-`: what may stand before the `=` of `NAME=VALUE`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    is_of(text, "_.-")
}

/// A name without dots, for what stands before a dot: keys of samples, columns of tables.
#[must_use]
pub fn is_word(text: &str) -> bool {
    is_of(text, "_-")
}

fn is_of(text: &str, marks: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}
