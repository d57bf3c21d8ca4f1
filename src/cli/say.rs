//! What the program says on stderr, its log aside.
//!
//! Invariants:
//! 1. What strangers name (keys, paths, captions, errors of other programs) moves no cursor: control characters are escaped.
//! 2. What nobody reads ends no run: stderr may be closed, or a pipe whose reader has gone.

use std::io::Write;

use trommel_core::escape::{escape_controls, escape_lines};

/// Says a line, the program's name before it.
pub fn say(line: impl AsRef<str>) {
    show(format!("trommel: {}", escape_controls(line.as_ref())));
}

/// Says a text that may have lines of its own, the program's name before the first.
pub fn say_lines(text: impl AsRef<str>) {
    show(format!("trommel: {}", text.as_ref()));
}

/// Shows a text with its lines, and no name before it: a table, say.
pub fn show(text: impl AsRef<str>) {
    let _reader_gone = writeln!(std::io::stderr().lock(), "{}", escape_lines(text.as_ref()));
}
