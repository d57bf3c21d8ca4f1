//! A table of a report: on the page, as CSV for programs, as LaTeX for a paper.

use std::fmt::Write as _;

use super::svg::escape;
use trommel_core::text::{percent, thousands};

/// What stands in a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text, shown as it is.
    Text(String),
    /// A number of things.
    Count(u64),
    /// A number, shown with so many decimals; CSV has all of them.
    Number(f64, usize),
    /// A mean and the spread around it, shown with so many decimals.
    Spread(f64, f64, usize),
    /// Part of a whole: per cent for people, a fraction in CSV.
    Share(u64, u64),
    /// A value that is not known: a dash on pages, empty in CSV.
    Missing,
}

impl Cell {
    /// A number that may be missing.
    #[must_use]
    pub fn number(value: Option<f64>, decimals: usize) -> Self {
        value.map_or(Self::Missing, |value| Self::Number(value, decimals))
    }

    /// As people read it.
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => thousands(*count),
            Self::Number(value, decimals) => format!("{value:.decimals$}"),
            Self::Spread(mean, spread, decimals) => format!("{mean:.decimals$} ± {spread:.decimals$}"),
            Self::Share(part, whole) => percent(*part, *whole),
            Self::Missing => "–".into(),
        }
    }

    /// As programs read it: one field, and two for a mean with its spread.
    fn fields(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![quoted(text)],
            Self::Count(count) => vec![count.to_string()],
            Self::Number(value, _) => vec![value.to_string()],
            Self::Spread(mean, spread, _) => vec![mean.to_string(), spread.to_string()],
            Self::Share(_, 0) | Self::Missing => vec![String::new()],
            Self::Share(part, whole) => vec![(*part as f64 / *whole as f64).to_string()],
        }
    }
}

/// A column of a [`DataTable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What stands over it.
    pub title: String,
    /// For people it stands in parentheses behind the column before.
    pub aside: bool,
}

/// A table, for a page, a terminal or CSV.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataTable {
    /// Its file's name, without an ending.
    pub name: String,
    /// What stands over it.
    pub title: String,
    /// What stands under it, a paragraph a line; may be empty.
    pub note: String,
    /// Heads of the columns, from left to right.
    pub columns: Vec<Column>,
    /// Its rows: a cell a column.
    pub rows: Vec<Vec<Cell>>,
    /// How many of them people see; all, where it is `None`. CSV has all.
    pub shown_rows: Option<usize>,
}

impl DataTable {
    /// A table without rows; a title in parentheses belongs to the column before.
    ///
    /// ```
    /// use trommel_report::{Cell, DataTable};
    /// let mut table = DataTable::new("sizes", "Sizes", &["split", "samples", "(share)"]);
    /// table.rows.push(vec![Cell::Text("near".into()), Cell::Count(1200), Cell::Share(1200, 4800)]);
    /// assert_eq!(table.csv(), "split,samples,share\nnear,1200,0.25\n");
    /// assert!(table.latex().contains("near & 1,200 (25.00 \\%) \\\\"));
    /// ```
    #[must_use]
    pub fn new(name: &str, title: &str, columns: &[&str]) -> Self {
        let column = |text: &&str| {
            let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
            Column { title: inner.unwrap_or(text).to_owned(), aside: inner.is_some() }
        };
        let columns = columns.iter().map(column).collect();
        Self { name: name.into(), title: title.into(), columns, ..Self::default() }
    }

    /// The same with a note under it.
    #[must_use]
    pub fn noted(self, note: &str) -> Self {
        Self { note: note.into(), ..self }
    }

    /// What people see: titles, then rows.
    fn shown(&self) -> Vec<Vec<String>> {
        let titles = self.columns.iter().map(|column| column.title.clone()).collect();
        let seen = self.rows.iter().take(self.shown_rows.unwrap_or(usize::MAX));
        let rows = seen.map(|row| row.iter().map(Cell::shown).collect());
        let join = |cells: Vec<String>| {
            let mut joined: Vec<String> = Vec::new();
            for (cell, column) in cells.into_iter().zip(&self.columns) {
                match joined.last_mut().filter(|_| column.aside) {
                    Some(before) => *before += &format!(" ({cell})"),
                    None => joined.push(cell),
                }
            }
            joined
        };
        std::iter::once(titles).chain(rows).map(join).collect()
    }

    /// RFC 4180, with the titles first. A mean's spread has a column of its own.
    #[must_use]
    pub fn csv(&self) -> String {
        let has_spread = |at: usize| self.rows.iter().any(|row| matches!(row.get(at), Some(Cell::Spread(..))));
        let wide: Vec<bool> = (0..self.columns.len()).map(has_spread).collect();
        let mut titles = Vec::new();
        for (column, wide) in self.columns.iter().zip(&wide) {
            titles.push(quoted(&column.title));
            titles.extend(wide.then(|| quoted(&format!("{} (spread)", column.title))));
        }
        let mut text = titles.join(",") + "\n";
        for row in &self.rows {
            let mut fields = Vec::new();
            for (cell, wide) in row.iter().zip(&wide) {
                let mut cell = cell.fields();
                cell.resize(1 + usize::from(*wide), String::new());
                fields.append(&mut cell);
            }
            text += &(fields.join(",") + "\n");
        }
        text
    }

    /// A `table` for the package booktabs.
    #[must_use]
    pub fn latex(&self) -> String {
        let lines: Vec<String> = self
            .shown()
            .iter()
            .map(|row| row.iter().map(|cell| tex(cell)).collect::<Vec<_>>().join(" & ") + " \\\\\n")
            .collect();
        let shown = self.columns.iter().filter(|column| !column.aside).count();
        let (head, rows) = lines.split_first().map_or((String::new(), String::new()), |(h, r)| (h.clone(), r.concat()));
        format!(
            "\\begin{{table}}\n\\caption{{{}}}\n\\label{{tab:{}}}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n{head}\\midrule\n{rows}\
             \\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n",
            tex(&self.title),
            self.name,
            "r".repeat(shown.saturating_sub(1))
        )
    }

    /// The page's part.
    pub(super) fn html(&self, page: &mut String) {
        let _ = write!(page, "<h2>{}</h2>\n<div class=\"scroll\"><table>", escape(&self.title));
        let shown = self.shown();
        let words: Vec<bool> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !column.aside)
            .map(|(at, _)| self.is_words(at))
            .collect();
        for (at, row) in shown.iter().enumerate() {
            *page += "<tr>";
            for (cell, words) in row.iter().zip(&words) {
                let _ = match (at, words) {
                    (0, true) => write!(page, "<th class=\"word\">{}</th>", escape(cell)),
                    (0, false) => write!(page, "<th>{}</th>", escape(cell)),
                    (_, true) => write!(page, "<td class=\"word\">{}</td>", escape(cell)),
                    (_, false) => write!(page, "<td>{}</td>", escape(cell)),
                };
            }
            *page += "</tr>\n";
        }
        *page += "</table></div>\n";
        for line in self.note.lines() {
            let _ = writeln!(page, "<p class=\"soft\">{}</p>", escape(line));
        }
    }

    fn is_words(&self, column: usize) -> bool {
        self.rows.iter().any(|row| matches!(row.get(column), Some(Cell::Text(_))))
    }
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// Text that LaTeX sets as it stands.
fn tex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '<' => out += "$<$",
            '>' => out += "$>$",
            '≥' => out += "$\\geq$",
            '±' => out += "$\\pm$",
            '–' => out += "--",
            c => out.push(c),
        }
    }
    out
}
