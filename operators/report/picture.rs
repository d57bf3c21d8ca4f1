//! One picture to look at: pairs by benchmark, then histograms. SVG.

use super::chart::{CHART_HEIGHT, HistogramSeries, chart, legend};
use super::pairs::{PairTile, TILE_HEIGHT, TILE_WIDTH, tile};
use super::svg::{DROPPED, INK, SOFT, Style, Svg, TEST, text_width};

/// What stands above everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heading {
    /// One short line.
    pub title: String,
    /// Further lines: what ran, on what, with which rule.
    pub lines: Vec<String>,
}

const WIDTH: f64 = 1240.0;
const MARGIN: f64 = 30.0;
const COLUMNS: usize = 5;
const GAP: f64 = 10.0;

/// Names of the benchmarks in the order of their first pair.
pub(super) fn benchmarks(pairs: &[PairTile]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for pair in pairs {
        if !names.contains(&pair.benchmark.as_str()) {
            names.push(&pair.benchmark);
        }
    }
    names
}

/// The picture, as an SVG document of 1240 pixels' width. Pairs are shown in the order given, grouped by benchmark.
#[must_use]
pub fn picture(heading: &Heading, pairs: &[PairTile], histograms: &[HistogramSeries]) -> String {
    let mut svg = Svg::default();
    let mut y = MARGIN + 26.0;
    let room = WIDTH - 2.0 * MARGIN;
    svg.fitted(MARGIN, y, Style::new(28.0, INK).bold(), &heading.title, room);
    for line in &heading.lines {
        y += 23.0;
        svg.fitted(MARGIN, y, Style::new(15.0, SOFT), line, room);
    }
    if !pairs.is_empty() {
        y += 34.0;
        svg.rect(MARGIN, y - 11.0, 13.0, 13.0, &format!("fill=\"none\" stroke=\"{DROPPED}\" stroke-width=\"2\""));
        let (left, style) = ("left: dropped from the training set", Style::new(13.0, INK));
        svg.text(MARGIN + 20.0, y, style, left);
        let x = MARGIN + 36.0 + text_width(left, style);
        svg.rect(x, y - 11.0, 13.0, 13.0, &format!("fill=\"none\" stroke=\"{TEST}\" stroke-width=\"2\""));
        let right = "right: the test picture that dropped it; green mark: a planted copy, and its kind";
        svg.text(x + 20.0, y, style, right);
        y += 20.0;
        let under = "under them: cosine similarity, the radius r it exceeds, and by how much; caption; shard and key";
        svg.text(MARGIN, y, Style::new(13.0, INK), under);
    }
    for name in benchmarks(pairs) {
        let shown: Vec<&PairTile> = pairs.iter().filter(|pair| pair.benchmark == name).collect();
        y += 34.0;
        svg.fitted(MARGIN, y, Style::new(18.0, INK).bold(), name, room);
        y += 12.0;
        for row in shown.chunks(COLUMNS) {
            for (i, pair) in row.iter().enumerate() {
                tile(&mut svg, MARGIN + i as f64 * (TILE_WIDTH + GAP), y, pair);
            }
            y += TILE_HEIGHT + GAP;
        }
        y -= GAP;
    }
    if !histograms.is_empty() {
        y += 44.0;
        svg.text(MARGIN, y, Style::new(18.0, INK).bold(), "How near the pool comes to each benchmark");
        y += 26.0;
        legend(&mut svg, MARGIN, y);
        y += 16.0;
        let columns = if histograms.len() == 1 { 1 } else { 2 };
        let width = (WIDTH - 2.0 * MARGIN - GAP * (columns - 1) as f64) / columns as f64;
        for row in histograms.chunks(columns) {
            for (i, series) in row.iter().enumerate() {
                chart(&mut svg, MARGIN + i as f64 * (width + GAP), y, width, series);
            }
            y += CHART_HEIGHT + GAP;
        }
    }
    let height = y + MARGIN;
    let mut whole = Svg::default();
    whole.rect(0.0, 0.0, WIDTH, height, "fill=\"#f7f9fb\"");
    whole.body += &svg.body;
    whole.document(WIDTH, height, &heading.title)
}
