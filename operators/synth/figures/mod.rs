//! What is drawn: each class as parts in a box of [-1, 1] x [-1, 1], y downwards, with jittered shape and colours.

mod living;
mod made;

use super::Class;
use super::canvas::{Colour, hsv};
use super::random::Stream;
use super::shape::Path;

/// How light falls on a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shade {
    /// A board: one slow gradient.
    Flat,
    /// A ball: lit from the side, with a highlight.
    Round,
    /// Gives its own light or is too small to matter.
    None,
}

/// One piece of a figure.
#[derive(Clone, Debug)]
pub(super) struct FigurePart {
    pub path: Path,
    pub colour: Colour,
    pub shade: Shade,
    /// A line of this width (in the figure's units) instead of a filled outline.
    pub pen: Option<f64>,
    /// How strongly its outline is inked: 1 a main part, less for details, 0 not at all.
    pub ink: f64,
    /// Throws a small shadow on the parts under it.
    pub lifted: bool,
}

/// A whole thing, drawn part by part from back to front.
#[derive(Clone, Debug, Default)]
pub(super) struct Figure {
    pub parts: Vec<FigurePart>,
    /// Stands on something (a shadow at its foot) rather than floats.
    pub stands: bool,
}

impl Figure {
    fn standing() -> Self {
        Self { parts: Vec::new(), stands: true }
    }

    fn add(&mut self, path: Path, colour: Colour, shade: Shade, ink: f64) -> &mut FigurePart {
        let at = self.parts.len();
        self.parts.push(FigurePart { path, colour, shade, pen: None, ink, lifted: false });
        &mut self.parts[at]
    }

    fn flat(&mut self, path: Path, colour: Colour) -> &mut FigurePart {
        self.add(path, colour, Shade::Flat, 1.0)
    }

    fn round(&mut self, path: Path, colour: Colour) -> &mut FigurePart {
        self.add(path, colour, Shade::Round, 1.0)
    }

    fn detail(&mut self, path: Path, colour: Colour) -> &mut FigurePart {
        self.add(path, colour, Shade::None, 0.5)
    }

    fn pen(&mut self, path: Path, width: f64, colour: Colour) {
        self.add(path, colour, Shade::None, 0.0).pen = Some(width);
    }
}

/// A colour near this hue (turns).
fn tint(chance: &mut Stream, hue: f64, saturation: f64, value: f64) -> Colour {
    hsv(
        hue + chance.range(-0.025, 0.025),
        (saturation + chance.range(-0.12, 0.12)).clamp(0.0, 1.0),
        (value + chance.range(-0.1, 0.1)).clamp(0.0, 1.0),
    )
}

/// A saturated colour of a hue drawn from these.
fn vivid(chance: &mut Stream, hues: &[f64]) -> Colour {
    let hue = chance.pick(hues);
    tint(chance, hue, 0.78, 0.86)
}

const INK: Colour = [0.09, 0.08, 0.1];
const WHITE: Colour = [0.96, 0.96, 0.94];

/// A figure of this class.
pub(super) fn figure(class: Class, chance: &mut Stream) -> Figure {
    match class {
        Class::House => made::house(chance),
        Class::Tree => living::tree(chance),
        Class::Fish => living::fish(chance),
        Class::Car => made::car(chance),
        Class::Sailboat => made::sailboat(chance),
        Class::Flower => living::flower(chance),
        Class::Clown => living::clown(chance),
        Class::Cup => made::cup(chance),
        Class::Star => made::star(chance),
        Class::Butterfly => living::butterfly(chance),
        Class::Mushroom => living::mushroom(chance),
        Class::Clock => made::clock(chance),
    }
}
