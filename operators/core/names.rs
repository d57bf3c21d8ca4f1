//! Names that people give: benchmarks, rules, shards of a list, sets.
//!
//! ```
//! use trommel_core::names::is_folder_name;
//!
//! assert!(is_folder_name("imagenet-v2", &[]) && !is_folder_name("..", &[]));
//! assert!(!is_folder_name("summary.json", &["summary.json"]), "a file of that name is written beside it");
//! ```

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

/// Bytes of the longest name that becomes a folder's: file systems take 255, and what stands beside it has some more.
const LONGEST_FOLDER: usize = 200;

/// What a name may be that becomes a folder's, for whoever is refused one.
pub const FOLDER_NAMES: &str = "a name is letters, digits, `_`, `.` and `-`, with no dot at its start";

/// Whether a name may become a folder's, beside files and folders that are the program's `own`: letters and digits of any script, `_`, `.` and `-`,
/// at most 200 bytes. A dot at its start is refused: `.` and `..` are other places, and what is hidden is the program's (locks, what is being removed).
#[must_use]
pub fn is_folder_name(text: &str, own: &[&str]) -> bool {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c));
    is_plain && !text.starts_with('.') && text.len() <= LONGEST_FOLDER && !own.contains(&text)
}

fn is_of(text: &str, marks: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_name_leads_nowhere_else() {
        let long = "n".repeat(LONGEST_FOLDER);
        for name in ["val", "früh", "v2.1", "a..b", "-", long.as_str()] {
            assert!(is_folder_name(name, &["gap.csv"]), "{name}");
        }
        for name in ["", ".", "..", ".val", "../val", "a/b", "/", "a b", "a\0b", "gap.csv", &format!("{long}n")] {
            assert!(!is_folder_name(name, &["gap.svg", "gap.csv"]), "{name}");
        }
    }
}
