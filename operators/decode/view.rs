//! From a decoded picture to the square that a model sees, u8\[size, size, 3\].
//!
//! ```text
//!  Shortest: shorter side to N, longer to floor(N * long / short), centre crop   (open_clip's evaluation)
//!  Squash:   both sides to N
//!  train:    crop of 90-100 % of the area, ratio 3/4..4/3, both sides to N       (open_clip's training)
//! ```
//!
//! All bicubic with Pillow's antialiasing, rounding as torchvision does. Only the pixels of the result are computed.
//!
//! **The training crop's chance, to the bit.** Draw n of a sample is `word(n) = Hash64("crop") / seed / sample / pass / n`
//! with [`Hash64`] as written down there and `sample = Hash64("sample") / key as text`, or, where a label is left out of it,
//! `Hash64("picture") / key behind its first slash / encoded bytes`;
//! `uniform(n, a, b) = a + (b - a) * (word >> 11) * 2^-53`; `below(n, k) = (word * k) >> 64` in 128 bits.
//!
//! ```text
//!  try t = 0..9, n = 4 t:   area  = width * height * uniform(n, smallest, largest)
//!                           ratio = exp(uniform(n + 1, -ln(4/3), ln(4/3)))
//!                           across = round(sqrt(area * ratio)), down = round(sqrt(area / ratio)), halves to even
//!                           both within 1..=side: top = below(n + 2, height - down + 1), left = below(n + 3, ...): done
//!  else the centre:         the largest part of a ratio within 3/4..4/3
//!  exp(x) = 1 + x/1 * (1 + x/2 * (1 + ... (1 + x/16))), in f64: no library's last bit has a say
//! ```

use serde::{Deserialize, Serialize};
use trommel_kernels::resize::{Filter, ResizeError, View, Window, resize_rgb8};

use super::Rgb8;
use trommel_core::hash::Hash64;

/// How a picture becomes a square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// Shorter side to the size, then the centre.
    #[default]
    Shortest,
    /// Both sides to the size.
    Squash,
}

/// The view an embedder sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalView {
    /// Side of the square, pixels.
    pub size: u32,
    /// How the picture becomes a square.
    #[serde(default)]
    pub mode: ResizeMode,
}

/// The view a trainer sees: another crop in each pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainView {
    /// Side of the square, pixels.
    pub size: u32,
    /// Smallest and largest share of the area, within 0 < smallest <= largest <= 1. Default 0.9, 1.0.
    #[serde(default = "default_scale")]
    pub scale: (f64, f64),
    /// Seed of the crops.
    #[serde(default)]
    pub seed: u64,
    /// Keys begin with a class folder's name: that is a label, and has no say in the crops.
    #[serde(default)]
    pub labelled: bool,
}

const fn default_scale() -> (f64, f64) {
    (0.9, 1.0)
}

/// Bytes of a view of `size`.
#[must_use]
pub const fn view_bytes(size: u32) -> u64 {
    size as u64 * size as u64 * 3
}

/// The evaluation view, u8\[size, size, 3\].
///
/// # Errors
/// When the sizes do not fit the resizer, or `picture.pixels` is too short.
pub fn eval_view(picture: &Rgb8, view: &EvalView) -> Result<Vec<u8>, ResizeError> {
    Placement::of_eval(picture.width, picture.height, view).view_of(picture)
}

/// Where a view lies in its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The part of the picture that is resized.
    pub area: Window,
    /// The width and height that it gets.
    pub to: (u32, u32),
    /// What of that is the view.
    pub window: Window,
}

impl Placement {
    /// The evaluation view's.
    pub fn of_eval(width: u32, height: u32, &EvalView { size, mode }: &EvalView) -> Self {
        let to = match mode {
            ResizeMode::Squash => (size, size),
            ResizeMode::Shortest => shortest(width, height, size),
        };
        let window = Window { left: centre(to.0, size), top: centre(to.1, size), width: size, height: size };
        Self { area: Window::whole(width, height), to, window }
    }

    /// The training view's, as [`train_view`].
    pub fn of_train(width: u32, height: u32, view: &TrainView, sample: u64, pass: u32) -> Self {
        let area = train_crop(width, height, view, sample, pass);
        Self { area, to: (view.size, view.size), window: Window::whole(view.size, view.size) }
    }

    fn view_of(&self, picture: &Rgb8) -> Result<Vec<u8>, ResizeError> {
        let source = View::crop(&picture.pixels, picture.width, picture.height, self.area)?;
        resize_rgb8(&source, self.to.0, self.to.1, self.window, FILTER)
    }
}

/// The filter of every view.
pub(crate) const FILTER: Filter = Filter::Bicubic;

/// Width and height after the shorter side became `size`: torchvision's `Resize(int)`, which truncates the longer one.
fn shortest(width: u32, height: u32, size: u32) -> (u32, u32) {
    let longer = |long: u32, short: u32| {
        let pixels = u64::from(size) * u64::from(long) / u64::from(short.max(1));
        u32::try_from(pixels).unwrap_or(u32::MAX)
    };
    if width <= height { (size, longer(height, width)) } else { (longer(width, height), size) }
}

/// First row or column of the centre: half of what is left, rounded to even as Python rounds.
fn centre(side: u32, size: u32) -> u32 {
    let left = side.saturating_sub(size);
    let half = left / 2;
    if left % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

/// The training view of sample `sample` (see [`sample_seed`] and [`picture_seed`]) in pass `pass`, u8\[size, size, 3\].
///
/// # Errors
/// When the sizes do not fit the resizer, or `picture.pixels` is too short.
pub fn train_view(picture: &Rgb8, view: &TrainView, sample: u64, pass: u32) -> Result<Vec<u8>, ResizeError> {
    Placement::of_train(picture.width, picture.height, view, sample, pass).view_of(picture)
}

/// The number that stands for a sample in the chance of its crops: of its key alone, so that another plan changes nothing.
#[must_use]
pub const fn sample_seed(key: &str) -> u64 {
    Hash64::new("sample").bytes(key.as_bytes()).finish()
}

/// The same of a picture in a class folder, whose name is a label: of the key behind it, and of the picture's encoded size, for other
/// folders may hold the same names.
#[must_use]
pub fn picture_seed(key: &str, encoded_bytes: u64) -> u64 {
    let name = key.split_once('/').map_or(key, |(_, name)| name);
    Hash64::new("picture").bytes(name.as_bytes()).word(encoded_bytes).finish()
}

/// ln(4/3): ratios lie between its negative and itself, logarithmically.
const LOG_RATIO: f64 = 0.287_682_072_451_780_9;

/// Tries before the centre is taken.
const TRIES: u64 = 10;

/// The rectangle that `train_view` takes: torchvision's `RandomResizedCrop`.
fn train_crop(width: u32, height: u32, view: &TrainView, sample: u64, pass: u32) -> Window {
    let base = Hash64::new("crop").word(view.seed).word(sample).word(u64::from(pass));
    let word = |n: u64| base.word(n).finish();
    let uniform = |n: u64, low: f64, high: f64| low + (high - low) * ((word(n) >> 11) as f64 / (1u64 << 53) as f64);
    let below = |n: u64, k: u32| ((u128::from(word(n)) * u128::from(k)) >> 64) as u32;
    let (w, h) = (f64::from(width), f64::from(height));
    for draw in (0..TRIES).map(|attempt| attempt * 4) {
        let area = w * h * uniform(draw, view.scale.0, view.scale.1);
        let ratio = exp(uniform(draw + 1, -LOG_RATIO, LOG_RATIO));
        let across = (area * ratio).sqrt().round_ties_even() as u32;
        let down = (area / ratio).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&across) && (1..=height).contains(&down) {
            let (top, left) = (below(draw + 2, height - down + 1), below(draw + 3, width - across + 1));
            return Window { left, top, width: across, height: down };
        }
    }
    let (across, down) = if w / h < 3.0 / 4.0 {
        (width, (w / (3.0 / 4.0)).round_ties_even() as u32)
    } else if w / h > 4.0 / 3.0 {
        ((h * (4.0 / 3.0)).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (across, down) = (across.clamp(1, width.max(1)), down.clamp(1, height.max(1)));
    // A picture without pixels has no crop, and is refused for it.
    Window { left: width.saturating_sub(across) / 2, top: height.saturating_sub(down) / 2, width: across, height: down }
}

/// e^x for |x| < 0.3, from additions, multiplications and divisions only: the same bits on every machine.
fn exp(x: f64) -> f64 {
    (1..=16).rev().fold(1.0, |sum, n| 1.0 + x / f64::from(n) * sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// From the text of hash.rs, by a Python program of its own.
    #[test]
    fn a_folders_name_has_no_say_in_its_pictures_crops() {
        for label in ["n01440764", "a fire engine"] {
            assert_eq!(picture_seed(&format!("{label}/images/größe 1.jpg"), 70_001), 0x5b50_fed9_3407_c83b);
        }
        assert_ne!(picture_seed("a/1.jpg", 5), picture_seed("a/1.jpg", 6));
        assert_ne!(picture_seed("a/1.jpg", 5), picture_seed("a/2.jpg", 5));
    }

    #[test]
    fn sizes_round_as_torchvision() {
        assert_eq!(shortest(500, 333, 224), (336, 224));
        assert_eq!(shortest(333, 500, 224), (224, 336));
        assert_eq!(shortest(7, 7, 224), (224, 224));
        // Python's round: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4.
        let starts: Vec<u32> = (224..233).map(|side| centre(side, 224)).collect();
        assert_eq!(starts, [0, 0, 1, 2, 2, 2, 3, 4, 4]);
    }

    #[test]
    fn the_series_is_the_exponential() {
        for i in -30..=30 {
            let x = f64::from(i) / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15, "{x}");
        }
        assert!((exp(LOG_RATIO) - 4.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn crops_stay_inside_and_differ_between_passes() {
        let view = TrainView { size: 16, scale: (0.9, 1.0), seed: 3, labelled: false };
        for (width, height) in [(1, 1), (1, 900), (900, 1), (3, 2), (400, 350), (350, 400), (65_535, 9)] {
            for pass in 0..50 {
                let crop = train_crop(width, height, &view, sample_seed("a"), pass);
                assert!(crop.width >= 1 && crop.left + crop.width <= width, "{crop:?}");
                assert!(crop.height >= 1 && crop.top + crop.height <= height, "{crop:?}");
            }
        }
        let share = |pass| {
            let crop = train_crop(400, 350, &view, sample_seed("a"), pass);
            f64::from(crop.width * crop.height) / (400.0 * 350.0)
        };
        assert!((0..50).all(|pass| (0.89..=1.0).contains(&share(pass))));
        let crops: std::collections::HashSet<_> =
            (0..50).map(|pass| format!("{:?}", train_crop(400, 350, &view, 7, pass))).collect();
        assert!(crops.len() > 40, "{}", crops.len());
    }

    /// The file was written by `make_crops.py` from this module's description alone: crops must never change.
    #[test]
    fn crops_equal_those_of_another_program() {
        let mut seen = 0;
        for line in include_str!("golden/crops.txt").lines().filter(|line| !line.starts_with('#')) {
            let f: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| f[at].parse::<u32>().unwrap();
            let scale = (f[2].parse().unwrap(), f[3].parse().unwrap());
            let view = TrainView { size: 16, scale, seed: f[4].parse().unwrap(), labelled: false };
            let key = if f[5] == "-" { "" } else { f[5] };
            let expected = Window { left: number(7), top: number(8), width: number(9), height: number(10) };
            assert_eq!(train_crop(number(0), number(1), &view, sample_seed(key), number(6)), expected, "{line}");
            seen += 1;
        }
        assert_eq!(seen, 80);
    }

    #[test]
    fn a_plain_picture_stays_plain() {
        let grey = Rgb8 { width: 37, height: 91, pixels: vec![77; 37 * 91 * 3] };
        let train = TrainView { size: 24, scale: (0.9, 1.0), seed: 1, labelled: false };
        assert!(train_view(&grey, &train, 5, 0).unwrap().iter().all(|&p| p == 77));
        for mode in [ResizeMode::Shortest, ResizeMode::Squash] {
            let pixels = eval_view(&grey, &EvalView { size: 24, mode }).unwrap();
            assert_eq!(pixels, vec![77; view_bytes(24) as usize]);
        }
    }
}
