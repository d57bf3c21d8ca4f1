//! Cumulative curves: of test points, the share whose nearest picture is at most that similar.

use super::chart::{CHART_HEIGHT, axis};
use super::svg::{DROPPED, INK, PLANTED, RULE, SOFT, Style, Svg, TEST};
use trommel_core::text::thousands;

/// One set of pictures' line.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What it is called.
    pub label: String,
    /// A value a test point (cosine); in any order.
    pub values: Vec<f64>,
}

/// The lines of one benchmark.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CurveChart {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Its lines, at most four.
    pub curves: Vec<Curve>,
}

/// Steps of a line, whatever the number of test points.
const STEPS: usize = 200;

const COLOURS: [&str; 4] = [INK, DROPPED, TEST, PLANTED];

/// Draws the lines of one benchmark in a box of this width.
pub(super) fn curves(svg: &mut Svg, x: f64, y: f64, width: f64, chart: &CurveChart) {
    svg.rect(x, y, width, CHART_HEIGHT, &format!("rx=\"6\" fill=\"#ffffff\" stroke=\"{RULE}\""));
    svg.text(x + 14.0, y + 26.0, Style::new(15.0, INK).bold(), &chart.benchmark);
    let (left, top, w, h) = (x + 52.0, y + 62.0, width - 70.0, CHART_HEIGHT - 62.0 - 48.0);
    let base = top + h;
    let sorted = |curve: &Curve| {
        let mut values: Vec<f64> = curve.values.iter().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let lines: Vec<Vec<f64>> = chart.curves.iter().map(sorted).collect();
    let ends = lines.iter().flat_map(|values| values.first().into_iter().chain(values.last()));
    let low = ends.clone().copied().fold(f64::INFINITY, f64::min);
    let high = ends.copied().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low < high { (low, high) } else { (low.min(1.0) - 0.01, high.max(0.0) + 0.01) };
    let across = |value: f64| left + w * (value - low) / (high - low);
    for share in [0.0, 0.5, 1.0] {
        let at = base - h * share;
        svg.line((left, at), (left + w, at), &format!("stroke=\"{RULE}\""));
        svg.text(left - 6.0, at + 4.0, Style::new(11.0, SOFT).end(), &format!("{:.0} %", share * 100.0));
    }
    let mut named = x + 130.0;
    for ((curve, values), colour) in chart.curves.iter().zip(&lines).zip(COLOURS) {
        let label = format!("{} ({})", curve.label, thousands(values.len() as u64));
        svg.line((named, y + 22.0), (named + 16.0, y + 22.0), &format!("stroke=\"{colour}\" stroke-width=\"2.5\""));
        svg.text(named + 22.0, y + 26.0, Style::new(12.0, INK), &label);
        named += 36.0 + label.chars().count() as f64 * 6.6;
        let Some(last) = values.len().checked_sub(1) else { continue };
        let steps = last.clamp(1, STEPS);
        let point = |step: usize| {
            let at = last * step / steps;
            (across(values[at]), base - h * (at + 1) as f64 / values.len() as f64)
        };
        let points: Vec<(f64, f64)> =
            std::iter::once((across(values[0]), base)).chain((0..=steps).map(point)).collect();
        svg.polyline(
            &points,
            &format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\""),
        );
    }
    axis(svg, (left, base), w, (low, high), "cosine similarity of a test picture to its nearest");
    svg.text(x + 14.0, top - 14.0, Style::new(11.0, SOFT), "share of the test pictures");
}
