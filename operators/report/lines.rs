//! Lines over a plane: accuracy against size, shares against similarity.

use super::chart::{decimals_of, tick_step};
use super::legend::flow;
use super::svg::{INK, PALETTE, RULE, SOFT, Style, Svg, text_width};
use trommel_core::text::thousands;

/// A point of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinePoint {
    /// Value on the axis across.
    pub x: f64,
    /// Value on the axis up.
    pub y: f64,
    /// Standard deviation over repetitions: a bar to both sides.
    pub spread: Option<f64>,
}

/// A line with its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChartLine {
    /// Its name in the legend.
    pub name: String,
    /// In the order of their x.
    pub points: Vec<LinePoint>,
    /// Broken: what the others are compared with.
    pub dashed: bool,
}

/// Lines over one pair of axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// What stands above the chart.
    pub title: String,
    /// Under the axis across.
    pub x_label: String,
    /// Beside the axis up.
    pub y_label: String,
    /// The lines; the order gives their colours.
    pub lines: Vec<ChartLine>,
    /// The axis up begins at zero.
    pub from_zero: bool,
}

/// Height of the plane and all around it but the legend, pixels.
const PLANE_HEIGHT: f64 = 330.0;
/// Height of a line of the legend.
const LEGEND_LINE: f64 = 20.0;
/// How names of lines look.
const NAME: Style = Style::new(12.0, INK);
/// How the ticks' labels look.
const TICK: Style = Style::new(11.0, SOFT);
/// Points above which a line has no marks.
const MARKED: usize = 24;

impl LineChart {
    /// The chart as an SVG document of this width.
    #[must_use]
    pub fn svg(&self, width: f64) -> String {
        let mut svg = Svg::default();
        let height = self.height(width);
        self.draw(&mut svg, width, height);
        svg.document(width, height, &self.title)
    }

    /// Places of the legend's entries, and its lines.
    fn legend(&self, width: f64) -> (Vec<(f64, usize)>, usize) {
        flow(self.lines.iter().map(|entry| 44.0 + text_width(&entry.name, NAME)), width - 34.0)
    }

    fn height(&self, width: f64) -> f64 {
        PLANE_HEIGHT + LEGEND_LINE * self.legend(width).1 as f64
    }

    fn points(&self) -> impl Iterator<Item = &LinePoint> {
        self.lines.iter().flat_map(|line| &line.points).filter(|point| point.x.is_finite() && point.y.is_finite())
    }

    fn draw(&self, svg: &mut Svg, width: f64, height: f64) {
        svg.rect(0.5, 0.5, width - 1.0, height - 1.0, &format!("rx=\"6\" fill=\"#ffffff\" stroke=\"{RULE}\""));
        svg.fitted(14.0, 26.0, Style::new(15.0, INK).bold(), &self.title, width - 28.0);
        svg.fitted(14.0, 46.0, TICK, &self.y_label, width - 28.0);
        let (places, lines) = self.legend(width);
        let top = 58.0;
        let base = top + PLANE_HEIGHT - 58.0 - 48.0;
        for (at, ((x, line), entry)) in places.iter().zip(&self.lines).enumerate() {
            let (x, y) = (14.0 + x, base + 58.0 + *line as f64 * LEGEND_LINE);
            svg.line((x, y - 4.0), (x + 22.0, y - 4.0), &look(at, entry.dashed));
            svg.fitted(x + 28.0, y, NAME, &entry.name, width - 14.0 - x - 28.0);
        }
        debug_assert!(base + 58.0 + (lines - 1) as f64 * LEGEND_LINE < height);
        let spread = |point: &LinePoint| point.spread.unwrap_or(0.0);
        let (x_low, x_high) = span(self.points().map(|point| point.x));
        let zero = self.from_zero.then_some(0.0);
        let heights = self
            .points()
            .flat_map(|p| [p.y - spread(p), p.y + spread(p)])
            .map(|y| if self.from_zero { y.max(0.0) } else { y });
        let (y_low, y_high) = span(heights.chain(zero));
        let y_ticks = ticks(y_low, y_high);
        let widest = y_ticks.iter().map(|(_, label)| text_width(label, TICK)).fold(0.0, f64::max);
        let (left, right) = (60.0f64.max(widest + 12.0), width - 20.0);
        svg.text((left + right) / 2.0, base + 36.0, Style::new(12.0, SOFT).middle(), &self.x_label);
        let across = |x: f64| left + (right - left) * (x - x_low) / (x_high - x_low);
        let up = |y: f64| base - (base - top) * (y - y_low) / (y_high - y_low);
        for (value, label) in y_ticks {
            svg.line((left, up(value)), (right, up(value)), &format!("stroke=\"{RULE}\""));
            svg.text(left - 6.0, up(value) + 4.0, TICK.end(), &label);
        }
        svg.line((left, base), (right, base), &format!("stroke=\"{INK}\""));
        for (value, label) in ticks(x_low, x_high) {
            svg.line((across(value), base), (across(value), base + 4.0), &format!("stroke=\"{INK}\""));
            // The last one ends with the box.
            let middle = across(value).min(width - 4.0 - text_width(&label, TICK) / 2.0);
            svg.text(middle, base + 17.0, TICK.middle(), &label);
        }
        for (at, line) in self.lines.iter().enumerate() {
            let colour = PALETTE[at % PALETTE.len()];
            let drawn: Vec<&LinePoint> =
                line.points.iter().filter(|point| point.x.is_finite() && point.y.is_finite()).collect();
            let places: Vec<(f64, f64)> = drawn.iter().map(|point| (across(point.x), up(point.y))).collect();
            svg.polyline(&places, &format!("fill=\"none\" stroke-linejoin=\"round\" {}", look(at, line.dashed)));
            if drawn.len() > MARKED {
                continue;
            }
            for (point, &(x, y)) in drawn.iter().zip(&places) {
                if let Some(spread) = point.spread.filter(|spread| *spread > 0.0) {
                    let (low, high) = (up((point.y - spread).max(y_low)), up(point.y + spread));
                    let bar = format!("stroke=\"{colour}\" stroke-width=\"1.4\"");
                    svg.line((x, low), (x, high), &bar);
                    [low, high].iter().for_each(|&end| svg.line((x - 4.0, end), (x + 4.0, end), &bar));
                }
                svg.circle(x, y, 3.6, &format!("fill=\"{colour}\""));
            }
        }
    }
}

fn look(at: usize, dashed: bool) -> String {
    let dash = if dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    format!("stroke=\"{}\" stroke-width=\"2\"{dash}", PALETTE[at % PALETTE.len()])
}

/// Round edges that hold the values.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    let (low, high) = if high - low < 1e-9 {
        (low - low.abs().max(1.0) * 0.05, high + high.abs().max(1.0) * 0.05)
    } else {
        (low, high)
    };
    let step = tick_step(high - low) / 2.0;
    ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step)
}

/// Values and labels of an axis.
fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let step = tick_step(high - low);
    let first = (low / step - 1e-9).ceil();
    let values = (0..12).map(|at| (first + f64::from(at)) * step).take_while(|value| *value <= high + step * 1e-6);
    let label = |value: f64| match step >= 1.0 && value >= 0.0 {
        true => thousands(value.round() as u64),
        false => format!("{:.*}", decimals_of(step), value + 0.0),
    };
    values.map(|value| (value, label(value))).collect()
}
