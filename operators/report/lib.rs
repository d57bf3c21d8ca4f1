//! What people look at: one picture, one page.
//!
//! Four nouns: a [`PairTile`] is a dropped training picture beside the test picture that dropped it; a
//! [`HistogramSeries`] counts a pool's largest similarities to one benchmark, with the benchmark's radii over them; a
//! [`Report`] is a page of both with the counts; a [`Gap`] is how near a reference set comes to each point of a benchmark. Another page
//! is made by [`page()`] of its [`PagePart`]s, [`LineChart`]s and [`DataTable`]s. Plain data goes in, a string comes out: no file is read or
//! written here. The picture is SVG, the page HTML; both carry their pictures inside, name no font of their own and load
//! nothing. Colours are Okabe and Ito's, which colour-blind readers tell apart.
#![forbid(missing_docs)]

mod chart;
mod curve;
mod gap;
mod html;
mod legend;
mod lines;
mod page;
mod pairs;
mod picture;
mod svg;
mod table;

#[cfg(test)]
mod tests;

pub use chart::HistogramSeries;
pub use curve::{Curve, CurveChart};
pub use gap::{Gap, gap_picture, gap_table};
pub use html::{BenchmarkCount, Report, html};
pub use lines::{ChartLine, LineChart, LinePoint};
pub use page::{PagePart, page};
pub use pairs::{PairTile, near_threshold};
pub use picture::{Heading, picture};
pub use table::{Cell, Column, DataTable};
