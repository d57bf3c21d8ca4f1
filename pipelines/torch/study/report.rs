//! The study's page, and its tables and charts as files of their own.

use std::path::Path;

use trommel_core::durable;
use trommel_core::text::thousands;
use trommel_pipelines::error::PipelineError;
use trommel_report::{Cell, ChartLine, DataTable, Heading, LineChart, LinePoint, PagePart, page};

use super::StudyReport;
use super::config::StudyFile;
use super::findings::{Mean, mean_of};
use super::gaps::SetGap;
use super::sets::{SetKind, TrainingSet};

/// Width of a chart in a file of its own, pixels.
const CHART_WIDTH: f64 = 720.0;

/// Writes `index.html`, all of it as `study.json`, each table as `.csv` and `.tex`, each chart as `.svg`.
///
/// # Errors
/// A folder that cannot be written.
pub(super) fn write(report: &StudyReport, file: &StudyFile, folder: &Path) -> Result<(), PipelineError> {
    let parts = parts(report, file);
    durable::make_folder(folder).map_err(PipelineError::at(folder))?;
    let put = |name: String, text: String| {
        let path = folder.join(name);
        durable::write(&path, text.as_bytes()).map_err(PipelineError::at(&path))
    };
    for part in &parts {
        match part {
            PagePart::Table(table) => {
                put(format!("{}.csv", table.name), table.csv())?;
                put(format!("{}.tex", table.name), table.latex())?;
            }
            PagePart::Charts { charts, .. } => {
                charts.iter().try_for_each(|chart| put(file_name(&chart.title) + ".svg", chart.svg(CHART_WIDTH)))?;
            }
        }
    }
    put("study.json".into(), serde_json::to_string(report).map_err(PipelineError::failed)? + "\n")?;
    let held = report.findings.iter().filter(|finding| finding.holds).count();
    let cards = [
        ("samples of the pool", thousands(report.pool.judged)),
        ("training sets", report.sets.len().to_string()),
        ("trainings", report.trainings.len().to_string()),
        ("comparisons that came out as in the paper", format!("{held} of {}", report.findings.len())),
    ];
    put("index.html".into(), page(&heading(file), &cards.map(|(name, figure)| (name.into(), figure)), &parts))
}

fn file_name(title: &str) -> String {
    title
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c.to_ascii_lowercase() } else { '-' })
        .collect()
}

fn heading(file: &StudyFile) -> Heading {
    let seeds: Vec<String> = file.seeds.iter().map(u64::to_string).collect();
    let line = format!(
        "embedder {}; trained model {}; benchmarks {}; seeds {}",
        file.embedder.model,
        file.model,
        file.benchmark_names().join(", "),
        seeds.join(", ")
    );
    Heading { title: "Accuracy and train-test similarity".into(), lines: vec![line] }
}

fn parts(report: &StudyReport, file: &StudyFile) -> Vec<PagePart> {
    let charts = |title: &str, note: &str, charts: Vec<LineChart>| {
        (!charts.is_empty()).then(|| PagePart::Charts { title: title.into(), note: note.into(), charts })
    };
    let names = file.benchmark_names();
    let ladders = names.iter().filter_map(|name| ladder(report, name)).collect();
    let gap_charts = names.iter().map(|name| gap_chart(report, name)).collect();
    let by_similarity = report.bins.iter().filter(|of| of.bins.len() > 1).map(similarity_chart).collect();
    let parts = [
        Some(PagePart::Table(accuracies(report, file))),
        (!report.findings.is_empty()).then(|| PagePart::Table(findings(report))),
        charts(
            "Accuracy against size",
            "Sets are called by what was pruned: far sets have lost the samples far from the benchmark and keep its nearest, near sets keep \
             the farthest, random sets any; all end at the whole pool. Bars: standard deviation over the seeds.",
            ladders,
        ),
        charts(
            "Similarity gaps",
            "Of each test picture the largest similarity to any picture of a set. A set that was pruned by the benchmark's radii comes \
             nowhere nearer than the reference does.",
            gap_charts,
        ),
        Some(PagePart::Table(gaps(report))),
        charts(
            "Accuracy against similarity",
            "The models of the whole pool, on test pictures by the similarity to their nearest picture of the pool.",
            by_similarity,
        ),
        Some(PagePart::Table(bins(report))),
        Some(PagePart::Table(trainings(report, file))),
        Some(PagePart::Table(rules(report))),
    ];
    parts.into_iter().flatten().collect()
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

fn top1(mean: Option<&Mean>) -> Cell {
    match mean.map(|mean| (100.0 * mean.top1, mean.spread)) {
        Some((top1, Some(spread))) => Cell::Spread(top1, 100.0 * spread, 2),
        Some((top1, None)) => Cell::Number(top1, 2),
        None => Cell::Missing,
    }
}

fn with_benchmarks(name: &str, title: &str, first: &[&str], file: &StudyFile) -> DataTable {
    let benchmarks = file.benchmark_names();
    let columns: Vec<&str> = first.iter().copied().chain(benchmarks.iter().map(String::as_str)).collect();
    DataTable::new(name, title, &columns)
}

fn accuracies(report: &StudyReport, file: &StudyFile) -> DataTable {
    let mut table = with_benchmarks("accuracy", "Zero-shot accuracy", &["training set", "samples"], file)
        .noted("Top-1 in percent: mean over the seeds, and standard deviation.");
    for set in &report.sets {
        let first = [text(&set.name), Cell::Count(set.count)];
        let tops = file.benchmark_names().into_iter().map(|name| top1(mean_of(&report.means, &set.name, &name)));
        table.rows.push(first.into_iter().chain(tops).collect());
    }
    table
}

fn trainings(report: &StudyReport, file: &StudyFile) -> DataTable {
    let mut table = with_benchmarks(
        "trainings",
        "Every training",
        &["training set", "seed", "steps", "samples seen", "last loss"],
        file,
    );
    for training in &report.trainings {
        let first = [
            text(&training.set),
            Cell::Text(training.seed.to_string()),
            Cell::Count(training.steps),
            Cell::Count(training.samples_seen),
            Cell::number(training.last_loss.map(f64::from), 4),
        ];
        let tops = training.accuracies.iter().map(|accuracy| Cell::Number(100.0 * accuracy.top1, 2));
        table.rows.push(first.into_iter().chain(tops).collect());
    }
    table
}

fn findings(report: &StudyReport) -> DataTable {
    let mut table = DataTable::new("comparisons", "The paper's comparisons", &["claim", "holds", "figures"])
        .noted("Means over the seeds are compared; whether a difference is more than chance, the spread says.");
    let row = |finding: &super::Finding| {
        vec![text(&finding.claim), text(if finding.holds { "yes" } else { "no" }), text(&finding.seen)]
    };
    table.rows = report.findings.iter().map(row).collect();
    table
}

fn gaps(report: &StudyReport) -> DataTable {
    let columns = ["set", "benchmark", "test points", "above their radius", "least", "median", "largest"];
    let mut table = DataTable::new("similarity-gaps", "Gaps in figures", &columns)
        .noted("Above their radius: test pictures to which the set comes nearer, strictly, than the reference does.");
    let row = |gap: &SetGap| {
        let figure = |value: f64| Cell::Number(value, 4);
        let counts = [Cell::Count(gap.points), Cell::Count(gap.over_radius)];
        let names = [text(&gap.set), text(&gap.benchmark)];
        names.into_iter().chain(counts).chain([gap.least, gap.median, gap.largest].map(figure)).collect()
    };
    table.rows = report.gaps.iter().map(row).collect();
    table
}

fn bins(report: &StudyReport) -> DataTable {
    let columns = ["benchmark", "similarity from", "to", "test pictures", "top-1 %", "Spearman's rho of the benchmark"];
    let mut table = DataTable::new("accuracy-by-similarity", "Accuracy by similarity in figures", &columns)
        .noted("Spearman's rho is between bins of ten pictures and more.");
    for of in &report.bins {
        for (at, bin) in of.bins.iter().enumerate() {
            table.rows.push(vec![
                text(&bin.benchmark),
                Cell::Number(bin.low, 3),
                Cell::Number(bin.high, 3),
                Cell::Count(bin.pictures),
                Cell::Number(100.0 * bin.top1, 2),
                Cell::number(of.spearman_rho.filter(|_| at == 0), 2),
            ]);
        }
    }
    table
}

fn rules(report: &StudyReport) -> DataTable {
    let mut table = DataTable::new(
        "sets",
        "How the sets are made",
        &["training set", "samples", "with caption", "rule", "sha256 of the kept keys"],
    );
    for set in &report.sets {
        let split = set.splits.first();
        table.rows.push(vec![
            text(&set.name),
            Cell::Count(set.count),
            Cell::Count(set.trainable),
            text(split.map_or("all that could be judged", |split| &split.rule)),
            text(split.map_or("", |split| &split.keys_sha256)),
        ]);
    }
    table
}

#[expect(clippy::cast_precision_loss)]
fn ladder(report: &StudyReport, benchmark: &str) -> Option<LineChart> {
    let is_far = |set: &TrainingSet| set.kind == SetKind::Far(benchmark.into());
    if !report.sets.iter().any(is_far) {
        return None;
    }
    // The whole from which the sets are drawn.
    let alone = |set: &TrainingSet| set.kind == SetKind::PoolAlone;
    let whole = if report.sets.iter().any(alone) { SetKind::PoolAlone } else { SetKind::Pool };
    let of = |name: &str, kind: SetKind| {
        let mut points: Vec<LinePoint> = (report.sets.iter().filter(|set| set.kind == kind || set.kind == whole))
            .filter_map(|set| {
                let mean = mean_of(&report.means, &set.name, benchmark)?;
                let spread = mean.spread.map(|spread| 100.0 * spread);
                Some(LinePoint { x: set.count as f64, y: 100.0 * mean.top1, spread })
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        ChartLine { name: name.into(), points, dashed: false }
    };
    Some(LineChart {
        title: format!("Size, {benchmark}"),
        x_label: "samples in the training set".into(),
        y_label: format!("zero-shot top-1 on {benchmark}, %"),
        lines: vec![
            of("far", SetKind::Far(benchmark.into())),
            of("near", SetKind::Near(benchmark.into())),
            of("random", SetKind::Random),
        ],
        from_zero: true,
    })
}

#[expect(clippy::cast_precision_loss)]
fn gap_chart(report: &StudyReport, benchmark: &str) -> LineChart {
    let shown = |set: &str| {
        set == "reference"
            || set == "pool"
            || set == "pool-alone"
            || set == format!("pruned-{benchmark}")
            || set == "pruned-combined"
            || set.starts_with("core-")
    };
    let line = |gap: &SetGap| {
        let last = gap.curve.len().saturating_sub(1).max(1) as f64;
        let point = |(at, &x): (usize, &f64)| LinePoint { x, y: at as f64 / last, spread: None };
        ChartLine {
            name: gap.set.clone(),
            points: gap.curve.iter().enumerate().map(point).collect(),
            dashed: gap.set == "reference",
        }
    };
    LineChart {
        title: format!("Gap, {benchmark}"),
        x_label: "largest similarity of a test picture to the set".into(),
        y_label: "share of the test pictures that are at most so near".into(),
        lines: report.gaps.iter().filter(|gap| gap.benchmark == benchmark && shown(&gap.set)).map(line).collect(),
        from_zero: true,
    }
}

fn similarity_chart(of: &super::Binned) -> LineChart {
    let points =
        of.bins.iter().map(|bin| LinePoint { x: (bin.low + bin.high) / 2.0, y: 100.0 * bin.top1, spread: None });
    let rho = of.spearman_rho.map_or_else(String::new, |rho| format!(", Spearman's rho {rho:.2}"));
    LineChart {
        title: format!("Similarity, {}", of.benchmark),
        x_label: "similarity to the nearest picture of the pool".into(),
        y_label: format!("zero-shot top-1 on {}, %", of.benchmark),
        lines: vec![ChartLine {
            name: format!("models of the whole pool{rho}"),
            points: points.collect(),
            dashed: false,
        }],
        from_zero: true,
    }
}
