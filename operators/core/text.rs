//! Text for the console: aligned columns, thousands, bytes, durations.

/// `1234567` as `1,234,567`.
///
/// ```
/// assert_eq!(trommel_core::text::thousands(1_234_567), "1,234,567");
/// ```
#[must_use]
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A word as a shell takes it: in quotes, unless it is plain.
///
/// ```
/// use trommel_core::text::shell_word;
/// assert_eq!(shell_word("splits/core.parquet"), "splits/core.parquet");
/// assert_eq!(shell_word("my splits/core.parquet"), "'my splits/core.parquet'");
/// assert_eq!(shell_word("it's"), r"'it'\''s'");
/// ```
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%_+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Bytes with a binary unit: `1.5 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut value, mut unit) = (count as f64 / 1024.0, 0);
    // 1023.95 and more would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Seconds as people say them: `340 ms`, `12.3 s`, `4 min 05 s`, `2 h 07 min`, `3 d 04 h`; `-` when not a duration.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".into();
    }
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (minutes, hours) = (whole / 60, whole / 3600);
    match hours {
        0 => format!("{minutes} min {:02} s", whole % 60),
        1..=47 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{} d {:02} h", hours / 24, hours % 24),
    }
}

/// Part of a whole: `3.07 %`; `-` of nothing.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.2} %", part as f64 * 100.0 / whole as f64) }
}

/// Things a second, with a precision that fits: `2.83/s`, `38.5/s`, `6,100/s`; `-` without time.
#[must_use]
pub fn rate(count: u64, seconds: f64) -> String {
    let value = count as f64 / seconds;
    match value {
        v if !v.is_finite() || v < 0.0 => "-".into(),
        v if v < 9.995 => format!("{v:.2}/s"),
        v if v < 999.95 => format!("{v:.1}/s"),
        v => format!("{}/s", thousands(v.round() as u64)),
    }
}

/// Which side a column's cells stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// On the left, as words.
    Left,
    /// On the right, as numbers.
    Right,
}

/// Rows of cells in aligned columns.
///
/// ```
/// use trommel_core::text::{Align, TextTable};
/// let mut table = TextTable::new(&[("benchmark", Align::Left), ("dropped", Align::Right)]);
/// table.row(["photo", "1,204"]);
/// table.row(["sketch", "87"]);
/// assert_eq!(table.to_string(), "benchmark  dropped\nphoto        1,204\nsketch          87\n");
/// ```
#[derive(Clone, Debug)]
pub struct TextTable {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with these headings.
    #[must_use]
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self { columns: columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing stay empty, cells without a column are left out.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }
}

impl std::fmt::Display for TextTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| self.rows.iter().map(|row| length(&row[i])).max().unwrap_or(0).max(length(&self.columns[i].0)))
            .collect();
        let heads: Vec<String> = self.columns.iter().map(|column| column.0.clone()).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                if i > 0 {
                    line.push_str("  ");
                }
                let pad = " ".repeat(widths[i] - length(cell));
                match self.columns[i].1 {
                    Align::Left => line.extend([cell.as_str(), &pad]),
                    Align::Right => line.extend([&pad, cell.as_str()]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 1_572_864, 1 << 40].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "1.0 TiB"]);
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(
            [0.34, 12.34, 59.96, 245.0, 7620.0, 273_600.0, f64::NAN].map(duration),
            ["340 ms", "12.3 s", "1 min 00 s", "4 min 05 s", "2 h 07 min", "3 d 04 h", "-"]
        );
        assert_eq!([percent(1, 3), percent(0, 0)], ["33.33 %", "-"]);
        assert_eq!(
            [rate(283, 100.0), rate(385, 10.0), rate(6100, 1.0), rate(5, 0.0)],
            ["2.83/s", "38.5/s", "6,100/s", "-"]
        );
    }
}
