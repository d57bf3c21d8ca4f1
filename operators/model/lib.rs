//! Models of pictures and captions: a folder a family, and what families share. Used by `embed`, `train` and `evaluate`.
//!
//! ```text
//! open_clip JSON, or a name ──▶ Architecture ──▶ Towers (image, text, logit scale) ◀── weights (safetensors, .pt, seeded)
//! caption ──▶ Captions ──▶ i64[n, context] ──▶ encode_text ──▶ f32[n, embed_dim]
//! u8[n, h, w, 3] ──▶ (embed room) ──▶ f32[n, 3, h, w] ──▶ encode_image ──▶ f32[n, embed_dim]
//! ```
//!
//! Invariants:
//! - **M1.** Parameter names and shapes are open_clip's, so files go in and out unchanged.
//! - **M2.** No libtorch random state is used: a seeded initialisation is a function of (seed, name, index).
//! - **M3.** A field of a configuration that changes the arithmetic and is not supported is refused by name.
//! - **M4.** Every libtorch call is the fallible twin; its error carries operation and shapes.
#![forbid(missing_docs)]

mod captions;
mod clean;
pub mod clip;
mod document;
pub mod error;
mod families;
pub mod family;
mod fields;
pub mod file;
pub mod loss;
mod model;
pub mod patches;
pub mod preprocess;
pub mod random;
mod siglip;
mod tokenizer;
mod transformer;
pub mod weights;

pub use captions::{PackedCaptions, Packing};
pub use error::ModelError;
pub use families::load;
pub use family::{Architecture, Captions, ImageTower, ModelSizes, TowerSizes, Towers};
pub use model::Model;
pub use preprocess::Preprocess;
pub use tokenizer::Tokenizer;

#[cfg(test)]
extern crate self as trommel_model; // other rooms' tests take `golden_inputs.rs` in by its path
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod golden_inputs;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod golden_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod peers;
#[cfg(test)]
#[path = "../../tests/common/skipped.rs"]
mod skipped;
