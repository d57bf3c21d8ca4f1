//! The similarity gap: how near a reference set comes to each test point of a benchmark. As a picture, with the histogram and the cumulative
//! curve of each reference set, and as a table of the same numbers.

use super::chart::{HistogramSeries, PADDING, TITLE_LINE, axis};
use super::legend::flow;
use super::svg::{INK, PALETTE, RULE, SOFT, Style, Svg, text_width};
use super::table::{Cell, DataTable};
use trommel_core::text::thousands;

/// Radii of one benchmark's points to one reference set.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Name of the reference set.
    pub reference: String,
    /// `r_i` of each test point: a cosine.
    pub radii: Vec<f64>,
}

/// Bins of histograms and tables.
const BINS: usize = 50;

/// What picture and table are called.
const TITLE: &str = "Similarity gap";

const WIDTH: f64 = 1240.0;
const MARGIN: f64 = 30.0;
const HEIGHT: f64 = 300.0;
const BETWEEN: f64 = 20.0;
const LEGEND_LINE: f64 = 22.0;

/// Counts in bins over low..high.
struct Bins {
    low: f64,
    high: f64,
    counts: Vec<u64>,
}

impl Bins {
    fn of(radii: &[f64], (low, high): (f64, f64)) -> Self {
        let mut series = HistogramSeries::new("", low, high, BINS);
        radii.iter().for_each(|radius| series.add_radius(*radius));
        Self { low: series.low, high: series.high, counts: series.radii }
    }

    fn edge(&self, at: usize) -> f64 {
        let edge = self.low + (self.high - self.low) * at as f64 / self.counts.len() as f64;
        (edge * 1e6).round() / 1e6
    }
}

/// One pair of edges for all: what is compared stands over each other.
fn span(gaps: &[Gap]) -> (f64, f64) {
    HistogramSeries::span(gaps.iter().flat_map(|gap| gap.radii.iter().copied()))
}

/// The table: a row for each bin of each benchmark and reference set. A bin holds `low <= r < high`, the last one `high` too;
/// `cumulative` is the share of the points up to the bin's end.
#[must_use]
pub fn gap_table(gaps: &[Gap]) -> DataTable {
    let columns = ["benchmark", "reference", "low", "high", "points", "cumulative"];
    let mut table = DataTable::new("gap", TITLE, &columns);
    for gap in gaps {
        let bins = Bins::of(&gap.radii, span(gaps));
        let (all, mut sum) = (gap.radii.len() as u64, 0);
        for (at, count) in bins.counts.iter().enumerate() {
            sum += count;
            table.rows.push(vec![
                Cell::Text(gap.benchmark.clone()),
                Cell::Text(gap.reference.clone()),
                Cell::Number(bins.edge(at), 4),
                Cell::Number(bins.edge(at + 1), 4),
                Cell::Count(*count),
                Cell::Share(sum, all),
            ]);
        }
    }
    table
}

/// The picture: SVG, a row for each benchmark, all with the same axis.
#[must_use]
pub fn gap_picture(gaps: &[Gap]) -> String {
    let mut svg = Svg::default();
    let mut y = MARGIN + 26.0;
    svg.text(MARGIN, y, Style::new(28.0, INK).bold(), TITLE);
    let mut references: Vec<&str> = Vec::new();
    let mut benchmarks: Vec<&str> = Vec::new();
    for gap in gaps {
        for (names, name) in [(&mut references, &gap.reference), (&mut benchmarks, &gap.benchmark)] {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    let colour = |reference: &str| {
        let at = references.iter().position(|name| *name == reference).unwrap_or_default();
        PALETTE[at % PALETTE.len()]
    };
    y += 34.0;
    let (style, room) = (Style::new(13.0, INK), WIDTH - 2.0 * MARGIN);
    let (places, lines) = flow(references.iter().map(|name| 60.0 + text_width(name, style)), room);
    for (name, (x, line)) in references.iter().zip(places) {
        let (x, y) = (MARGIN + x, y + line as f64 * LEGEND_LINE);
        let look = format!("stroke=\"{}\" stroke-width=\"3\"", colour(name));
        svg.line((x, y - 4.0), (x + 22.0, y - 4.0), &look);
        svg.fitted(x + 30.0, y, style, name, room - 30.0);
    }
    y += 18.0 + (lines - 1) as f64 * LEGEND_LINE;
    let (low, high) = span(gaps);
    let width = (WIDTH - 2.0 * MARGIN - BETWEEN) / 2.0;
    for name in &benchmarks {
        let mine: Vec<(&Gap, Bins)> = gaps
            .iter()
            .filter(|gap| gap.benchmark == *name)
            .map(|gap| (gap, Bins::of(&gap.radii, (low, high))))
            .collect();
        let points = mine.first().map_or(0, |(gap, _)| gap.radii.len());
        let points = format!("{} test points", thousands(points as u64));
        let most = mine.iter().flat_map(|(_, bins)| &bins.counts).copied().max().unwrap_or(0).max(1) as f64;
        let left = panel(&mut svg, (MARGIN, y), width, (name, &points), (low, high), &thousands(most as u64));
        let right =
            panel(&mut svg, (MARGIN + width + BETWEEN, y), width, ("share of them up to r", ""), (low, high), "1");
        for (gap, bins) in &mine {
            let look = format!(
                "fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"",
                colour(&gap.reference)
            );
            let (mut outline, mut curve) = (vec![left.at(0.0, 0.0)], vec![right.at(0.0, 0.0)]);
            let (all, mut sum) = (gap.radii.len().max(1) as f64, 0);
            for (at, count) in bins.counts.iter().enumerate() {
                let (from, to) = (at as f64 / BINS as f64, (at + 1) as f64 / BINS as f64);
                outline.extend([left.at(from, *count as f64 / most), left.at(to, *count as f64 / most)]);
                sum += count;
                curve.push(right.at(to, sum as f64 / all));
            }
            outline.push(left.at(1.0, 0.0));
            svg.polyline(&outline, &look);
            svg.polyline(&curve, &look);
        }
        y += HEIGHT + BETWEEN;
    }
    let height = y + MARGIN - BETWEEN;
    let mut whole = Svg::default();
    whole.rect(0.0, 0.0, WIDTH, height, "fill=\"#f7f9fb\"");
    whole.body += &svg.body;
    whole.document(WIDTH, height, TITLE)
}

/// A frame with its axes; places in it are given as shares of its width and height.
struct Panel {
    left: f64,
    base: f64,
    w: f64,
    h: f64,
}

impl Panel {
    fn at(&self, across: f64, up: f64) -> (f64, f64) {
        (self.left + self.w * across, self.base - self.h * up)
    }
}

/// Draws a frame under its name, with a note at the name's right.
fn panel(
    svg: &mut Svg,
    (x, y): (f64, f64),
    width: f64,
    (name, note): (&str, &str),
    span: (f64, f64),
    most: &str,
) -> Panel {
    svg.rect(x, y, width, HEIGHT, &format!("rx=\"6\" fill=\"#ffffff\" stroke=\"{RULE}\""));
    let aside = Style::new(13.0, SOFT).end();
    let room = width - 2.0 * PADDING - text_width(note, aside);
    svg.fitted(x + PADDING, y + TITLE_LINE, Style::new(15.0, INK).bold(), name, room - PADDING);
    svg.text(x + width - PADDING, y + TITLE_LINE, aside, note);
    let (left, top) = (x + 62.0, y + 50.0);
    let (w, h) = (width - 80.0, HEIGHT - 50.0 - 48.0);
    let panel = Panel { left, base: top + h, w, h };
    svg.line((left, top), (left + w, top), &format!("stroke=\"{RULE}\""));
    svg.text(left - 6.0, top + 4.0, Style::new(11.0, SOFT).end(), most);
    svg.text(left - 6.0, panel.base + 4.0, Style::new(11.0, SOFT).end(), "0");
    axis(svg, (left, panel.base), w, span, "r: cosine to the nearest reference");
    panel
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps() -> Vec<Gap> {
        let gap = |benchmark: &str, reference: &str, radii: &[f64]| Gap {
            benchmark: benchmark.into(),
            reference: reference.into(),
            radii: radii.to_vec(),
        };
        vec![
            gap("val", "train", &[0.5, 0.61, 0.75, 0.9]),
            gap("val", "a, <b>", &[0.2, 0.9, 0.9, 0.9]),
            gap("empty", "train", &[]),
        ]
    }

    #[test]
    fn the_table_counts_every_point_once() {
        let table = gap_table(&gaps());
        assert_eq!(table.rows.len(), 3 * BINS);
        for (rows, points) in table.rows.chunks(BINS).zip([4, 4, 0]) {
            let counts = rows.iter().map(|row| if let Cell::Count(count) = row[4] { count } else { 0 });
            assert_eq!(counts.sum::<u64>(), points);
            assert!(rows.windows(2).all(|pair| pair[0][3] == pair[1][2]), "edges meet");
            assert_eq!(rows[BINS - 1][5], Cell::Share(points, points));
        }
        let csv = table.csv();
        assert!(csv.starts_with("benchmark,reference,low,high,points,cumulative\nval,train,0.2,"), "{csv}");
        assert!(csv.contains("val,\"a, <b>\",0.2,"), "{csv}");
    }

    #[test]
    fn the_picture_has_a_curve_and_a_histogram_for_each() {
        let picture = gap_picture(&gaps());
        assert_eq!(picture.matches("<polyline").count(), 6);
        assert!(picture.contains("a, &lt;b&gt;") && picture.contains(">4 test points<"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
    }
}
