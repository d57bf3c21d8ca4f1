//! Names of classes in a text, one a line, in the order of the classes' numbers.
//!
//! A line's place is the number of its class. So a blank line can neither be left out, for all names behind it would go to other classes, nor
//! be a name, for no prompt can be made of it: it is refused. Behind the last name there is no class that would miss one.
//!
//! ```
//! use trommel_shard::class_names::{BlankLine, class_lines};
//! assert_eq!(class_lines("tench\r\n great white shark \n"), Ok(vec!["tench", "great white shark"]));
//! assert_eq!(class_lines("tench\n\ngoldfish\n"), Err(BlankLine { line: 2 }));
//! assert_eq!(class_lines("tench\n\n \n"), Ok(vec!["tench"]));
//! ```

/// A line without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a blank line where the name of a class is due: a line's place is the number of its class")]
pub struct BlankLine {
    /// Its number in the text, from 1.
    pub line: usize,
}

/// The names in a text, without the blanks around them and without a byte-order mark, up to the last line that is not blank.
///
/// # Errors
/// The first line that is blank and has a name behind it.
pub fn class_lines(text: &str) -> Result<Vec<&str>, BlankLine> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end().lines().map(str::trim).enumerate();
    lines.map(|(at, name)| if name.is_empty() { Err(BlankLine { line: at + 1 }) } else { Ok(name) }).collect()
}
