//! One page: counts, histograms, galleries, reject reasons, where the time went. Self-contained.

use std::fmt::Write as _;

use super::chart::{CHART_HEIGHT, HistogramSeries, chart, legend};
use super::curve::{CurveChart, curves};
use super::pairs::{PairTile, TILE_HEIGHT, TILE_WIDTH, tile};
use super::picture::{Heading, benchmarks};
use super::svg::{PALETTE, Svg, escape};
use super::table::{Cell, DataTable};
use trommel_core::text::{duration, percent, thousands};

/// A benchmark's line in the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BenchmarkCount {
    /// Name of the benchmark.
    pub name: String,
    /// Test points in it.
    pub points: u64,
    /// Samples removed because of it.
    pub removed: u64,
    /// Distinct test points that removed them.
    pub points_hit: u64,
    /// Largest similarity of the pool to any of its points.
    pub pool_max: Option<f64>,
    /// Largest similarity among the kept.
    pub kept_max: Option<f64>,
}

/// All that the page shows; what is empty is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Title and lines under it.
    pub heading: Heading,
    /// Samples that the split keeps.
    pub kept: u64,
    /// Samples dropped.
    pub dropped: u64,
    /// Samples rejected.
    pub rejected: u64,
    /// What each benchmark dropped, in the run's order.
    pub benchmarks: Vec<BenchmarkCount>,
    /// Histograms by benchmark.
    pub histograms: Vec<HistogramSeries>,
    /// Cumulative curves by benchmark.
    pub curves: Vec<CurveChart>,
    /// Pairs of what was kept, those nearest to the limit.
    pub kept_pairs: Vec<PairTile>,
    /// Tables, in the order to show.
    pub tables: Vec<DataTable>,
    /// Pairs, in the order to show within a benchmark.
    pub pairs: Vec<PairTile>,
    /// Pictures are blurred until somebody clicks on them.
    pub blurred: bool,
    /// (reason, samples), in the order to show.
    pub rejects: Vec<(String, u64)>,
    /// (stage, seconds).
    pub seconds: Vec<(String, f64)>,
    /// (name, value): rule, seed, model, identity, command.
    pub facts: Vec<(String, String)>,
}

const STYLE: &str = "
:root{color-scheme:light}
body{margin:0;background:#f7f9fb;color:#1f2933;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
main{max-width:1200px;margin:0 auto;padding:36px 30px 60px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px}h2{font-size:20px;margin:44px 0 12px}h3{font-size:16px;margin:22px 0 8px}
p{margin:0 0 8px}.soft{color:#5f6b7a}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:24px 0 0}
.card{background:#fff;border:1px solid #d5dbe3;border-radius:8px;padding:14px 18px}
.card b{display:block;font-size:28px;line-height:1.2;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;margin:0 0 10px}
table{border-collapse:collapse;background:#fff;border:1px solid #d5dbe3;min-width:60%}
th,td{padding:7px 16px;text-align:right;border-bottom:1px solid #e8ecf1;font-variant-numeric:tabular-nums}
th{font-weight:600;color:#5f6b7a;font-size:14px}th:first-child,td:first-child{text-align:left}
td{white-space:nowrap}th.word,td.word{text-align:left;white-space:normal}
td.word+td.word{overflow-wrap:anywhere;min-width:15ch}
.blurred image{filter:blur(9px)}.blurred div:focus image{filter:none}.blurred div{cursor:pointer;outline:none}
.grid{display:flex;flex-wrap:wrap;gap:10px}.grid svg{display:block;max-width:100%;height:auto}
@media(max-width:640px){.charts{overflow-x:auto}.charts svg{min-width:520px}}
.bar{display:flex;height:30px;border-radius:6px;overflow:hidden;margin:0 0 10px}
.key{display:flex;flex-wrap:wrap;gap:6px 22px;font-size:14px}.key i{display:inline-block;width:12px;height:12px;margin-right:7px}
";

fn piece(width: f64, height: f64, title: &str, draw: impl FnOnce(&mut Svg)) -> String {
    let mut svg = Svg::default();
    draw(&mut svg);
    svg.document(width, height, title)
}

/// A page up to its title.
pub(super) fn head(title: &str) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n<style>{STYLE}</style></head>\n<body><main>\n\
         <h1>{0}</h1>\n",
        escape(title)
    );
    page
}

/// What stands under the title.
pub(super) fn lines_under(page: &mut String, heading: &Heading) {
    for line in &heading.lines {
        let _ = writeln!(page, "<p class=\"soft\">{}</p>", escape(line));
    }
}

/// The page, as an HTML document that loads nothing.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page = head(&report.heading.title);
    lines_under(&mut page, &report.heading);
    let total = report.kept + report.dropped + report.rejected;
    page += "<div class=\"cards\">";
    for (name, count) in
        [("samples", total), ("kept", report.kept), ("dropped", report.dropped), ("rejected", report.rejected)]
    {
        let share = if name == "samples" { String::new() } else { format!(", {}", percent(count, total)) };
        let _ = write!(
            page,
            "<div class=\"card\"><b>{}</b><span class=\"soft\">{name}{share}</span></div>",
            thousands(count)
        );
    }
    page += "</div>\n";
    let (counts, rejects, run) = (report.counts(), report.reasons(), report.run());
    let table = |page: &mut String, table: &DataTable| (!table.rows.is_empty()).then(|| table.html(page));
    table(&mut page, &counts);
    if !report.histograms.is_empty() {
        page += "<h2>How near the pool comes to each benchmark</h2>\n<div class=\"grid charts\">\n";
        page += &piece(620.0, 26.0, "legend", |svg| legend(svg, 2.0, 18.0));
        for series in &report.histograms {
            page += &piece(585.0, CHART_HEIGHT + 1.0, &series.benchmark, |svg| chart(svg, 0.5, 0.5, 584.0, series));
        }
        page += "</div>\n";
    }
    if !report.curves.is_empty() {
        page += "<h2>The similarity gap</h2>\n<p class=\"soft\">Each test picture's nearest in the reference set (its radius), in the \
                 pool, and among what is kept.</p>\n<div class=\"grid charts\">\n";
        for chart in &report.curves {
            page += &piece(585.0, CHART_HEIGHT + 1.0, &chart.benchmark, |svg| curves(svg, 0.5, 0.5, 584.0, chart));
        }
        page += "</div>\n";
    }
    report.tables.iter().for_each(|own| _ = table(&mut page, own));
    pairs(&mut page, report, false);
    pairs(&mut page, report, true);
    table(&mut page, &rejects);
    time(&mut page, &report.seconds);
    table(&mut page, &run);
    page + "</main></body></html>\n"
}

impl Report {
    /// All tables of the page, in its order.
    #[must_use]
    pub fn data_tables(&self) -> Vec<DataTable> {
        let own = self.tables.iter().cloned();
        let all = std::iter::once(self.counts()).chain(own).chain([self.reasons(), self.run()]);
        all.filter(|table| !table.rows.is_empty()).collect()
    }

    fn counts(&self) -> DataTable {
        let columns = [
            "benchmark",
            "test points",
            "removed",
            "(distinct test points hit)",
            "share of samples",
            "nearest in the pool",
            "nearest kept",
        ];
        let note = "A sample that several benchmarks remove counts in each of them. Nearest: the largest cosine similarity to any test point.";
        let total = self.kept + self.dropped + self.rejected;
        let row = |b: &BenchmarkCount| {
            vec![
                Cell::Text(b.name.clone()),
                Cell::Count(b.points),
                Cell::Count(b.removed),
                Cell::Count(b.points_hit),
                Cell::Share(b.removed, total),
                Cell::number(b.pool_max, 4),
                Cell::number(b.kept_max, 4),
            ]
        };
        let rows = self.benchmarks.iter().map(row).collect();
        DataTable { rows, ..DataTable::new("benchmarks", "By benchmark", &columns).noted(note) }
    }

    fn reasons(&self) -> DataTable {
        let row = |(reason, count): &(String, u64)| vec![Cell::Text(reason.clone()), Cell::Count(*count)];
        let rows = self.rejects.iter().map(row).collect();
        DataTable { rows, ..DataTable::new("rejects", "What could not be judged", &["reason", "samples"]) }
    }

    fn run(&self) -> DataTable {
        let row = |(name, value): &(String, String)| vec![Cell::Text(name.clone()), Cell::Text(value.clone())];
        let rows = self.facts.iter().map(row).collect();
        DataTable { rows, ..DataTable::new("run", "The run", &["what", "value"]) }
    }
}

fn pairs(page: &mut String, report: &Report, kept: bool) {
    let shown = if kept { &report.kept_pairs } else { &report.pairs };
    if shown.is_empty() {
        return;
    }
    *page += match kept {
        false => {
            "<h2>What was dropped, and by what</h2>\n<p class=\"soft\">Left: dropped from the training set. Right: the test \
             picture that dropped it. Under them: cosine similarity, the radius r it exceeds, and by how much.</p>\n"
        }
        true => {
            "<h2>What was kept, nearest to the limit</h2>\n<p class=\"soft\">Left: kept in the training set. Right: the test \
             picture whose radius it comes nearest to from below.</p>\n"
        }
    };
    if report.blurred {
        *page += "<p class=\"soft\">A click on a pair shows its pictures.</p>\n";
    }
    for name in benchmarks(shown) {
        let _ = write!(
            page,
            "<h3>{}</h3>\n<div class=\"grid{}\">\n",
            escape(name),
            if report.blurred { " blurred" } else { "" }
        );
        for pair in shown.iter().filter(|pair| pair.benchmark == name) {
            let drawn = piece(TILE_WIDTH + 1.0, TILE_HEIGHT + 1.0, &pair.key, |svg| tile(svg, 0.5, 0.5, pair));
            // What can be clicked on has the focus then, which the style asks for: no script is needed.
            *page += &if report.blurred { format!("<div tabindex=\"0\">{drawn}</div>\n") } else { drawn };
        }
        *page += "</div>\n";
    }
}

fn time(page: &mut String, seconds: &[(String, f64)]) {
    let shown: Vec<(usize, &str, f64)> = seconds
        .iter()
        .enumerate()
        .filter(|(_, (_, s))| s.is_finite() && *s > 0.0)
        .map(|(i, (name, s))| (i, name.as_str(), *s))
        .collect();
    let total: f64 = shown.iter().map(|stage| stage.2).sum();
    if shown.is_empty() {
        return;
    }
    *page += "<h2>Where the time went</h2>\n<div class=\"bar\">";
    for (i, _, s) in &shown {
        let _ = write!(
            page,
            "<div style=\"width:{:.3}%;background:{}\"></div>",
            s * 100.0 / total,
            PALETTE[i % PALETTE.len()]
        );
    }
    *page += "</div>\n<div class=\"key\">";
    for (i, name, s) in &shown {
        let _ = write!(
            page,
            "<span><i style=\"background:{}\"></i>{} {} ({:.1} %)</span>",
            PALETTE[i % PALETTE.len()],
            escape(name),
            duration(*s),
            s * 100.0 / total
        );
    }
    *page += "</div>\n";
}
