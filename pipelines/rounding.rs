//! Who rounded vectors to f16: two programs need not give one vector the same bits, and the sample that gives a radius equals it
//! only in the bits that it was measured in.
//!
//! Canonical vectors are rounded once, from the vector that was normalised in f64. What clip-retrieval stores was normalised in f32 and
//! rounded then; that is used as it is. Where the reference set went the one way and the pool the other, an exact copy of a reference is over
//! the radius that it gave about as often as not, though nothing is nearer than the reference set: this is said, for no bit of either
//! tells. Where the references are at hand as they were before they were rounded, normalised f32, `radii --round-like clip-retrieval` rounds them as the
//! pool was.

use std::fmt::{self, Display, Formatter};

use trommel_core::notices::Notices;

use crate::benchmark_origin::BenchmarkOrigin;

/// Who rounded the rows of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounded {
    /// We, some of them.
    pub here: bool,
    /// Another program, before we saw them.
    pub before: bool,
}

impl Rounded {
    /// Of what is embedded as it comes.
    pub const HERE: Self = Self { here: true, before: false };
}

impl Display for Rounded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.here, self.before) {
            (true, true) => "by trommel and by who stored them",
            (false, true) => "by who stored them",
            _ => "by trommel",
        })
    }
}

/// Notes each benchmark whose radii are of references that were not rounded as the pool was; one that does not say is passed over.
pub fn note(notices: &mut Notices, benchmarks: &[BenchmarkOrigin], pool: Rounded) {
    let pool = pool.to_string();
    for BenchmarkOrigin { name, references_rounded, .. } in benchmarks {
        let Some(references) = references_rounded.as_ref().filter(|references| **references != pool) else {
            continue;
        };
        let place = format!("benchmark {name}: its references were rounded {references}, the pool's vectors {pool}");
        let text = "benchmarks whose references and pool were rounded to f16 by different programs (a copy of the reference that gives a \
                    radius may be dropped: give both as f32, both as one program stored them, or `radii --round-like clip-retrieval` where the references are \
                    the f32 vectors that it rounded)";
        notices.note("rounded_twice", text, place, 1);
    }
}
