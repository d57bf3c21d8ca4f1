//! What every room imports: the sample and its fate, its place in time, who judged it, what was lost of it, and what it may hold.
//!
//! Three nouns run through everything: a [`sample::Sample`] is one image-text pair as it stood in its tar; a
//! [`sample::Fate`] is what became of it; a [`sample::Time`] says in which pass and which shard that happened. What a
//! sample holds is a [`credit::Permit`]; every wait for one ends at a [`stop::Stop`].
#![forbid(missing_docs)]

pub mod causes;
pub mod control_group;
pub mod cores;
pub mod credit;
pub mod durable;
pub mod escape;
pub mod hash;
pub mod image_kind;
pub mod median;
pub mod names;
pub mod notices;
pub mod out_folder;
pub mod peak;
pub mod records;
pub mod sample;
pub mod stop;
pub mod text;
pub mod wake;
