//! Histograms: a pool's largest similarities to a benchmark, with its radii.

use super::svg::{DROPPED, INK, KEPT, RULE, SOFT, Style, Svg, text_width};
use trommel_core::text::thousands;

/// Counts in bins of equal width over low..high; what lies outside is counted in the first or last bin.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSeries {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Left edge of the first bin (cosine).
    pub low: f64,
    /// Right edge of the last bin (cosine).
    pub high: f64,
    /// Samples by their largest similarity to the benchmark, dropped ones included.
    pub pool: Vec<u64>,
    /// Of these the dropped ones.
    pub dropped: Vec<u64>,
    /// Test points by their radius; all zero without radii.
    pub radii: Vec<u64>,
    /// The rule's one threshold, if it has one.
    pub threshold: Option<f64>,
}

impl HistogramSeries {
    /// Empty bins: at least one, over a span that is not empty.
    #[must_use]
    pub fn new(benchmark: &str, low: f64, high: f64, bins: usize) -> Self {
        let bins = bins.max(1);
        let high = if high > low { high } else { low + 1e-6 };
        let (pool, dropped, radii) = (vec![0; bins], vec![0; bins], vec![0; bins]);
        Self { benchmark: benchmark.into(), low, high, pool, dropped, radii, threshold: None }
    }

    /// Edges that hold these values with a little room, on round numbers; (0, 1) of nothing.
    #[must_use]
    pub fn span(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|v| v.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return (0.0, 1.0);
        }
        let step = tick_step((high - low).max(1e-4)) / 2.0;
        ((low / step).floor() * step, (high / step).ceil() * step)
    }

    fn bin(&self, value: f64) -> usize {
        let at = (value - self.low) / (self.high - self.low) * self.pool.len() as f64;
        (at.max(0.0) as usize).min(self.pool.len() - 1)
    }

    /// Counts a sample.
    pub fn add(&mut self, max_similarity: f64, dropped: bool) {
        let bin = self.bin(max_similarity);
        self.pool[bin] += 1;
        self.dropped[bin] += u64::from(dropped);
    }

    /// Counts a test point's radius.
    pub fn add_radius(&mut self, radius: f64) {
        let bin = self.bin(radius);
        self.radii[bin] += 1;
    }
}

/// A round distance between ticks: about five of them over the span.
pub(super) fn tick_step(span: f64) -> f64 {
    let mut step = 1e-6;
    loop {
        for k in [1.0, 2.0, 5.0] {
            if span / (step * k) <= 6.0 {
                return step * k;
            }
        }
        step *= 10.0;
    }
}

/// Digits after the point that tell ticks apart.
pub(super) fn decimals_of(tick: f64) -> usize {
    if tick >= 0.1 {
        1
    } else if tick >= 0.01 {
        2
    } else if tick >= 0.001 {
        3
    } else {
        6
    }
}

/// Height of a chart, axis texts included.
pub(super) const CHART_HEIGHT: f64 = 284.0;
/// Line of a chart's title, from its upper edge.
pub(super) const TITLE_LINE: f64 = 26.0;
/// Line under the title: no mark of the plane comes up to it.
pub(super) const SECOND_LINE: f64 = 46.0;
/// Upper edge of the plane; what is marked in it may be named in the 18 pixels above.
pub(super) const PLANE_TOP: f64 = 76.0;
/// Space to both sides of a chart's titles.
pub(super) const PADDING: f64 = 14.0;
/// Space from the plane's right edge to the chart's.
const RIGHT: f64 = 18.0;

/// Draws one histogram in a box of this width.
pub(super) fn chart(svg: &mut Svg, x: f64, y: f64, width: f64, series: &HistogramSeries) {
    svg.rect(x, y, width, CHART_HEIGHT, &format!("rx=\"6\" fill=\"#ffffff\" stroke=\"{RULE}\""));
    let most = series.pool.iter().copied().max().unwrap_or(0).max(1);
    let small = Style::new(11.0, SOFT);
    let left = x + 62.0f64.max(text_width(&thousands(most), small) + 12.0);
    let top = y + PLANE_TOP;
    let (w, h) = (x + width - RIGHT - left, CHART_HEIGHT - PLANE_TOP - 48.0);
    let base = top + h;
    let room = width - 2.0 * PADDING;
    svg.fitted(x + PADDING, y + TITLE_LINE, Style::new(15.0, INK).bold(), &series.benchmark, room);
    svg.text(x + PADDING, y + SECOND_LINE, small, "samples (square-root scale)");
    let (pool, dropped) = (series.pool.iter().sum::<u64>(), series.dropped.iter().sum::<u64>());
    let counts = format!("{} of {} samples dropped", thousands(dropped), thousands(pool));
    svg.text(x + width - PADDING, y + SECOND_LINE, Style::new(13.0, SOFT).end(), &counts);
    // Root scale: a few dropped samples stay visible beside thousands of kept ones.
    let up = |count: f64| base - h * (count / most as f64).sqrt();
    for share in [1.0, 0.5, 0.1] {
        let count = (most as f64 * share).round();
        if count >= 1.0 && (share == 1.0 || count < most as f64) {
            svg.line((left, up(count)), (left + w, up(count)), &format!("stroke=\"{RULE}\""));
            svg.text(left - 6.0, up(count) + 4.0, small.end(), &thousands(count as u64));
        }
    }
    let bins = series.pool.len();
    let step = w / bins as f64;
    let gap = if step > 4.0 { 0.8 } else { 0.0 };
    for (i, count) in series.pool.iter().enumerate() {
        let at = left + i as f64 * step;
        let mut bar = |count: u64, fill: &str| {
            if count > 0 {
                let tip = up(count as f64).min(base - 1.5);
                svg.rect(at + gap / 2.0, tip, step - gap, base - tip, &format!("fill=\"{fill}\""));
            }
        };
        bar(*count, KEPT);
        bar(series.dropped.get(i).copied().unwrap_or(0), DROPPED);
    }
    let most_radii = series.radii.iter().copied().max().unwrap_or(0);
    if most_radii > 0 {
        // Radii on a scale of their own: the outline of their histogram.
        let mut points = vec![(left, base)];
        for (i, count) in series.radii.iter().enumerate() {
            let height = base - h * 0.92 * *count as f64 / most_radii as f64;
            points.extend([(left + i as f64 * step, height), (left + (i + 1) as f64 * step, height)]);
        }
        points.push((left + w, base));
        svg.polyline(
            &points,
            &format!("fill=\"none\" stroke=\"{INK}\" stroke-width=\"1.8\" stroke-linejoin=\"round\""),
        );
    }
    let across = |value: f64| left + w * (value - series.low) / (series.high - series.low);
    if let Some(threshold) = series.threshold.filter(|t| (series.low..=series.high).contains(t)) {
        let at = across(threshold);
        let look = format!("stroke=\"{DROPPED}\" stroke-width=\"2\" stroke-dasharray=\"5 4\"");
        svg.line((at, top - 6.0), (at, base), &look);
        // A label at an edge stays in the chart.
        let (label, style) = (format!("{threshold}"), Style::new(11.0, DROPPED).middle());
        let half = text_width(&label, style) / 2.0;
        let middle = at.min(x + width - 4.0 - half).max(x + 4.0 + half);
        svg.text(middle, top - 8.0, style, &label);
    }
    axis(svg, (left, base), w, (series.low, series.high), "largest cosine similarity to the benchmark");
}

/// Draws an axis of cosines from `low` to `high`, with its ticks and its name; the chart ends 18 pixels to the right of it.
pub(super) fn axis(svg: &mut Svg, (left, base): (f64, f64), w: f64, (low, high): (f64, f64), name: &str) {
    let across = |value: f64| left + w * (value - low) / (high - low);
    svg.line((left, base), (left + w, base), &format!("stroke=\"{INK}\""));
    let tick = tick_step(high - low);
    let decimals = decimals_of(tick);
    let mut number = (low / tick - 1e-9).ceil();
    while number * tick <= high + tick * 1e-6 {
        let at = across(number * tick);
        svg.line((at, base), (at, base + 4.0), &format!("stroke=\"{INK}\""));
        let label = format!("{:.decimals$}", number * tick + 0.0);
        let style = Style::new(11.0, SOFT).middle();
        let last = left + w + RIGHT - 2.0 - text_width(&label, style) / 2.0;
        svg.text(at.min(last), base + 17.0, style, &label);
        number += 1.0;
    }
    svg.text(left + w / 2.0, base + 36.0, Style::new(12.0, SOFT).middle(), name);
}

/// Draws what the colours mean.
pub(super) fn legend(svg: &mut Svg, x: f64, y: f64) {
    let mut at = x;
    for (fill, label) in [(KEPT, "samples kept"), (DROPPED, "samples dropped")] {
        svg.rect(at, y - 11.0, 14.0, 14.0, &format!("fill=\"{fill}\""));
        svg.text(at + 20.0, y, Style::new(13.0, INK), label);
        at += 40.0 + label.len() as f64 * 7.0;
    }
    let look = format!("fill=\"none\" stroke=\"{INK}\" stroke-width=\"1.8\"");
    svg.polyline(
        &[(at, y), (at + 4.0, y), (at + 4.0, y - 9.0), (at + 10.0, y - 9.0), (at + 10.0, y), (at + 16.0, y)],
        &look,
    );
    svg.text(at + 24.0, y, Style::new(13.0, INK), "radii of the test pictures (own scale)");
}
