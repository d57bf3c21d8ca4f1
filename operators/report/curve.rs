//! Cumulative curves: of test points, the share whose nearest picture is at most that similar.

use super::chart::{CHART_HEIGHT, PADDING, PLANE_TOP, SECOND_LINE, TITLE_LINE, axis};
use super::svg::{DROPPED, INK, PLANTED, RULE, SOFT, Style, Svg, TEST, text_width};
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
    let room = width - 2.0 * PADDING;
    svg.fitted(x + PADDING, y + TITLE_LINE, Style::new(15.0, INK).bold(), &chart.benchmark, room);
    let (left, top, w, h) = (x + 52.0, y + PLANE_TOP, width - 70.0, CHART_HEIGHT - PLANE_TOP - 48.0);
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
    // The legend has a line of its own; where it is too long for that, every entry gets an equal part of it.
    let (name, line) = (Style::new(12.0, INK), y + SECOND_LINE);
    let label = |(curve, values): (&Curve, &Vec<f64>)| format!("{} ({})", curve.label, thousands(values.len() as u64));
    let labels: Vec<String> = chart.curves.iter().zip(&lines).take(COLOURS.len()).map(label).collect();
    let widths: Vec<f64> = labels.iter().map(|label| 36.0 + text_width(label, name)).collect();
    let part = if widths.iter().sum::<f64>() <= room { room } else { room / labels.len().max(1) as f64 };
    let mut named = x + PADDING;
    for ((label, width), colour) in labels.iter().zip(widths).zip(COLOURS) {
        let look = format!("stroke=\"{colour}\" stroke-width=\"2.5\"");
        svg.line((named, line - 4.0), (named + 16.0, line - 4.0), &look);
        svg.fitted(named + 22.0, line, name, label, part - 36.0);
        named += width.min(part);
    }
    for (values, colour) in lines.iter().zip(COLOURS) {
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
    svg.text(x + PADDING, top - 12.0, Style::new(11.0, SOFT), "share of the test pictures");
}
