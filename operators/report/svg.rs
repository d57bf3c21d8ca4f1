//! The few SVG elements that are used here, written out as text.

use std::fmt::Write as _;

use base64::Engine as _;
use trommel_core::image_kind::image_kind;

/// Text and lines.
pub(super) const INK: &str = "#1f2933";
/// Less important text.
pub(super) const SOFT: &str = "#5f6b7a";
/// Colour of frames and of the lines behind a chart.
pub(super) const RULE: &str = "#d5dbe3";
/// Okabe and Ito's vermilion: what fell.
pub(super) const DROPPED: &str = "#D55E00";
/// Okabe and Ito's sky blue: what stayed.
pub(super) const KEPT: &str = "#7CC3EA";
/// Okabe and Ito's blue: test pictures.
pub(super) const TEST: &str = "#0072B2";
/// Okabe and Ito's bluish green: planted copies.
pub(super) const PLANTED: &str = "#00795A";
/// Okabe and Ito's palette for series, in an order that keeps neighbours apart; again from the start where there are more.
pub(super) const PALETTE: [&str; 8] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a6d00", "#5f6b7a"];

/// What every browser has.
pub(super) const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

/// Text that is safe in XML and HTML; control characters become spaces.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// As much as stands in the width of `length` small letters, the rest as an ellipsis; runs of white space become one space.
pub(super) fn shorten(text: &str, length: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let width = |text: &str| text.chars().map(width_of).sum::<f64>();
    if width(&text) <= length as f64 {
        return text;
    }
    let mut left = length as f64 - width_of('…');
    let fits = |c: &char| {
        left -= width_of(*c);
        left >= 0.0
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// About how wide a character is, in small letters: capitals are wider, and what is written in squares is as wide as it is high.
fn width_of(c: char) -> f64 {
    match c {
        'm' | 'w' | '…' => 1.5,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'.. => 2.0,
        c if c.is_uppercase() || matches!(c, '@' | '%' | '&' | '—') => 1.4,
        _ => 1.0,
    }
}

/// About how wide a text is, in pixels, in DejaVu Sans: the widest of the fonts that [`FONT`] may end in, so that it has room in all others.
pub(super) fn text_width(text: &str, style: Style) -> f64 {
    text.chars().map(width_of).sum::<f64>() * style.letter()
}

/// A `data:` address of an encoded picture; `None` when browsers would not show it.
pub(super) fn data_url(bytes: &[u8]) -> Option<String> {
    let media_type = image_kind(bytes)?.media_type()?;
    Some(format!("data:{media_type};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}

/// Elements in the order of painting.
#[derive(Debug, Default)]
pub(super) struct Svg {
    pub body: String,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub size: f64,
    pub bold: bool,
    pub fill: &'static str,
    pub anchor: &'static str,
}

impl Style {
    pub(super) const fn new(size: f64, fill: &'static str) -> Self {
        Self { size, bold: false, fill, anchor: "start" }
    }

    pub(super) const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// Width of a small letter in pixels, in DejaVu Sans.
    fn letter(self) -> f64 {
        self.size * if self.bold { 0.69 } else { 0.62 }
    }

    pub(super) const fn middle(self) -> Self {
        Self { anchor: "middle", ..self }
    }

    pub(super) const fn end(self) -> Self {
        Self { anchor: "end", ..self }
    }
}

impl Svg {
    pub(super) fn text(&mut self, x: f64, y: f64, style: Style, text: &str) {
        self.text_of(x, y, style, "", text);
    }

    /// As much of a text as stands in `width` pixels; all of it in a tooltip where that is not the whole.
    pub(super) fn fitted(&mut self, x: f64, y: f64, style: Style, text: &str, width: f64) {
        let short = shorten(text, (width / style.letter()) as usize);
        let whole = shorten(text, usize::MAX);
        let tooltip = if short == whole { "" } else { &whole };
        self.text_of(x, y, style, tooltip, &short);
    }

    fn text_of(&mut self, x: f64, y: f64, style: Style, tooltip: &str, text: &str) {
        let title = if tooltip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tooltip)) };
        let weight = if style.bold { " font-weight=\"600\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{}\"{weight}>{title}{}</text>",
            style.size,
            style.fill,
            style.anchor,
            escape(text)
        );
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, look: &str) {
        let _ = writeln!(self.body, "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\" {look}/>");
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), look: &str) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{:.2}\" y1=\"{:.2}\" x2=\"{:.2}\" y2=\"{:.2}\" {look}/>",
            from.0, from.1, to.0, to.1
        );
    }

    pub(super) fn circle(&mut self, x: f64, y: f64, r: f64, look: &str) {
        let _ = writeln!(self.body, "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{r:.1}\" {look}/>");
    }

    pub(super) fn polyline(&mut self, points: &[(f64, f64)], look: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
        let _ = writeln!(self.body, "<polyline points=\"{}\" {look}/>", points.join(" "));
    }

    /// An encoded picture fitted into a square with a frame; a note where it cannot be shown.
    pub(super) fn image(&mut self, x: f64, y: f64, side: f64, bytes: &[u8], frame: &str) {
        self.rect(x, y, side, side, "fill=\"#eef1f5\"");
        match data_url(bytes) {
            Some(url) => {
                let _ = writeln!(
                    self.body,
                    "<image x=\"{x:.1}\" y=\"{y:.1}\" width=\"{side:.1}\" height=\"{side:.1}\" \
                     preserveAspectRatio=\"xMidYMid meet\" href=\"{url}\"/>"
                );
            }
            None => self.text(x + side / 2.0, y + side / 2.0 + 4.0, Style::new(11.0, SOFT).middle(), "no preview"),
        }
        self.rect(x, y, side, side, &format!("fill=\"none\" stroke=\"{frame}\" stroke-width=\"2\""));
    }

    /// The whole document.
    pub(super) fn document(self, width: f64, height: f64, title: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"{FONT}\" role=\"img\">\n<title>{}</title>\n{}</svg>\n",
            escape(title),
            self.body
        )
    }
}
