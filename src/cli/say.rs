//! What the program says on stderr, above its bars.
//!
//! Invariants:
//! 1. What strangers name (keys, paths, captions, errors of other programs) moves no cursor: control characters are escaped.
//! 2. What nobody reads ends no run: stderr may be closed, or a pipe whose reader has gone.
//! 3. A line stands alone: bars are taken away while it is written.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
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
    let text = escape_lines(text.as_ref());
    let _reader_gone = screen().suspend(|| writeln!(io::stderr().lock(), "{text}"));
}

/// Where all bars of the process stand.
pub fn screen() -> &'static MultiProgress {
    static SCREEN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
    &SCREEN
}

/// Whether stderr is a terminal that bars can move on: a `dumb` one, as of an editor, is none.
pub fn is_screen() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether lines of the log are coloured: on a screen, unless `NO_COLOR` says otherwise (<https://no-color.org>).
pub fn has_colours() -> bool {
    is_screen() && std::env::var_os("NO_COLOR").is_none_or(|word| word.is_empty())
}

/// Writes to stderr, above the bars.
pub struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        screen().suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
