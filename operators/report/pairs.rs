//! Pairs: a dropped training picture beside the test picture that dropped it.

use super::svg::{DROPPED, INK, KEPT, PLANTED, RULE, SOFT, Style, Svg, TEST, shorten};

/// A dropped picture and its test picture, with captions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairTile {
    /// The training picture, encoded (JPEG, PNG, WebP, GIF, BMP).
    pub image: Vec<u8>,
    /// The test picture that dropped it or came nearest to it, encoded.
    pub test_image: Vec<u8>,
    /// Cosine of the two pictures' embeddings.
    pub similarity: f64,
    /// The test picture's radius, or the rule's threshold; `None` where there is neither.
    pub radius: Option<f64>,
    /// The training picture's caption; may be empty.
    pub caption: String,
    /// Name of the benchmark.
    pub benchmark: String,
    /// Shard and key, as `trommel why` takes them.
    pub key: String,
    /// It was kept, near the limit.
    pub kept: bool,
    /// Kind of planted copy (`exact`, `resized`, ...) where a truth file says so.
    pub planted: Option<String>,
}

/// Width of a pair in the picture, pixels.
pub(super) const TILE_WIDTH: f64 = 228.0;
/// Height of a pair, its text included.
pub(super) const TILE_HEIGHT: f64 = 180.0;
const SIDE: f64 = 104.0;

/// Draws one pair with its left upper corner at (x, y).
pub(super) fn tile(svg: &mut Svg, x: f64, y: f64, tile: &PairTile) {
    let look = format!("rx=\"6\" fill=\"#ffffff\" stroke=\"{RULE}\"");
    svg.rect(x, y, TILE_WIDTH, TILE_HEIGHT, &look);
    svg.image(x + 7.0, y + 8.0, SIDE, &tile.image, if tile.kept { KEPT } else { DROPPED });
    svg.image(x + TILE_WIDTH - 7.0 - SIDE, y + 8.0, SIDE, &tile.test_image, TEST);
    let line = y + SIDE + 28.0;
    svg.text(x + 8.0, line, Style::new(15.0, INK).bold(), &format!("{:.4}", tile.similarity));
    if let Some(radius) = tile.radius {
        let sign = if tile.similarity > radius {
            ">"
        } else if tile.similarity < radius {
            "<"
        } else {
            "="
        };
        svg.text(x + 74.0, line, Style::new(12.5, SOFT), &format!("{sign} r {radius:.4}"));
        let margin = format!("{:+.4}", tile.similarity - radius);
        svg.text(
            x + TILE_WIDTH - 8.0,
            line,
            Style::new(12.5, if tile.kept { TEST } else { DROPPED }).bold().end(),
            &margin,
        );
    }
    let caption = if tile.caption.trim().is_empty() { "(no caption)" } else { &tile.caption };
    svg.fitted(x + 8.0, line + 20.0, Style::new(12.0, INK), caption, TILE_WIDTH - 16.0);
    svg.fitted(x + 8.0, line + 37.0, Style::new(11.0, SOFT), &tile.key, TILE_WIDTH - 16.0);
    if let Some(kind) = &tile.planted {
        let kind = shorten(kind, 14);
        // Over the dropped picture's foot.
        let width = 14.0 + kind.chars().count() as f64 * 6.6;
        let (left, top) = (x + 9.0, y + 8.0 + SIDE - 18.0);
        svg.rect(left, top, width, 16.0, &format!("rx=\"8\" fill=\"{PLANTED}\""));
        svg.text(left + width / 2.0, top + 12.0, Style::new(11.0, "#ffffff").middle(), &kind);
    }
}

/// Which pairs to show: of these margins (similarity less radius) the indices of at most `count`, in descending order
/// of margin: half of them nearest to the threshold, half spread evenly over the rest.
///
/// ```
/// use trommel_report::near_threshold;
/// assert_eq!(near_threshold(&[0.3, 0.01, 0.2, 0.02, 0.1], 4), [0, 2, 3, 1]);
/// assert_eq!(near_threshold(&[0.3], 4), [0]);
/// ```
#[must_use]
pub fn near_threshold(margins: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..margins.len()).collect();
    order.sort_by(|a, b| margins[*b].total_cmp(&margins[*a]).then(a.cmp(b)));
    if order.len() <= count {
        return order;
    }
    let mut nearest = order.clone();
    nearest.sort_by(|a, b| margins[*a].abs().total_cmp(&margins[*b].abs()).then(a.cmp(b)));
    let mut take = vec![false; margins.len()];
    nearest.iter().take(count / 2).for_each(|index| take[*index] = true);
    let rest: Vec<usize> = order.iter().copied().filter(|index| !take[*index]).collect();
    let spread = count - count / 2;
    for i in 0..spread {
        take[rest[i * rest.len() / spread]] = true;
    }
    order.retain(|index| take[*index]);
    order
}
