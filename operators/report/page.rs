//! A page of charts and tables. Self-contained.

use std::fmt::Write as _;

use super::html::{head, lines_under};
use super::lines::LineChart;
use super::picture::Heading;
use super::svg::escape;
use super::table::DataTable;

/// A part of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum PagePart {
    /// Charts side by side.
    Charts {
        /// What stands over them.
        title: String,
        /// What stands under the title.
        note: String,
        /// The charts, from left to right.
        charts: Vec<LineChart>,
    },
    /// A table under its title.
    Table(DataTable),
}

/// Width of a chart on a page, pixels.
const CHART_WIDTH: f64 = 585.0;

/// The page, as an HTML document that loads nothing. `cards` are names and short figures, on top.
#[must_use]
pub fn page(heading: &Heading, cards: &[(String, String)], parts: &[PagePart]) -> String {
    let mut page = head(&heading.title);
    lines_under(&mut page, heading);
    if !cards.is_empty() {
        page += "<div class=\"cards\">";
        for (name, figure) in cards {
            let (name, figure) = (escape(name), escape(figure));
            let _ = write!(page, "<div class=\"card\"><b>{figure}</b><span class=\"soft\">{name}</span></div>");
        }
        page += "</div>\n";
    }
    for part in parts {
        match part {
            PagePart::Charts { title, note, charts } => {
                let _ = writeln!(page, "<h2>{}</h2>\n<p class=\"soft\">{}</p>", escape(title), escape(note));
                page += "<div class=\"grid charts\">\n";
                charts.iter().for_each(|chart| page += &chart.svg(CHART_WIDTH));
                page += "</div>\n";
            }
            PagePart::Table(table) => table.html(&mut page),
        }
    }
    page + "</main></body></html>\n"
}
