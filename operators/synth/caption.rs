//! Captions: templates with class, colour words and rendition; some missing, empty or odd, as the web has them.

use super::random::Stream;
use super::{Class, Rendition};

/// What a downloaded caption column held.
pub(super) fn caption(class: Class, rendition: Rendition, odd_share: f64, chance: &mut Stream) -> Option<String> {
    let name = class.name();
    if chance.chance(odd_share) {
        return match chance.below(10) {
            0 | 1 => None,
            2 | 3 => Some(String::new()),
            4 => Some(format!("IMG_{:04}.JPG", chance.below(10_000))),
            5 => Some(format!("Buy {name} &amp; more &#8211; 50&nbsp;% off!!! | shop.example")),
            6 => Some(format!("{name}\n\n{name} wallpaper\thd")),
            7 => Some(format!("{name} – «très joli» 🎈 日本")),
            8 => Some(format!("{} ", name.to_uppercase()).repeat(40)),
            _ => Some("   ".to_owned()),
        };
    }
    let article = if "aeiou".contains(&name[..1]) { "an" } else { "a" };
    let mood = chance.pick(&["", "", "", "nice ", "little ", "lovely ", "big ", "old ", "funny ", "colourful "]);
    let thing = if mood.is_empty() { format!("{article} {name}") } else { format!("a {mood}{name}") };
    Some(match rendition {
        Rendition::Photo => match chance.below(6) {
            0 => format!("a photo of {thing}"),
            1 => format!("{thing} seen this morning"),
            2 => format!("close-up photo of {thing}"),
            3 => format!("my {name}"),
            4 => format!("photograph: {mood}{name}, natural light"),
            _ => format!("{thing} in the picture"),
        },
        Rendition::Sketch => match chance.below(4) {
            0 => format!("a sketch of {thing}"),
            1 => format!("pencil drawing of {thing}"),
            2 => format!("how to draw {thing}, step 4"),
            _ => format!("{mood}{name}, ink on paper"),
        },
        Rendition::Cartoon => match chance.below(4) {
            0 => format!("a cartoon of {thing}"),
            1 => format!("{mood}{name} clip art"),
            2 => format!("cartoon {name} sticker"),
            _ => format!("vector illustration of {thing}"),
        },
        Rendition::Texture => match chance.below(3) {
            0 => format!("{thing} made of patterned cloth"),
            1 => format!("{name} in a strange texture"),
            _ => format!("collage of {thing}"),
        },
    })
}
