//! How near each test picture's nearest training picture is, by what the picture is called.
//!
//! | written | the similarity to |
//! |---|---|
//! | `FOLDER`, a benchmark with radii | the reference set of `trommel radii` |
//! | `RUN@NAME`, a run that judged the benchmark NAME | the nearest sample of the run's pool |

use std::collections::HashMap;
use std::path::Path;

use trommel_columnar::ColumnarError;
use trommel_columnar::source::EmbeddingReader;
use trommel_core::notices::Notices;

use crate::benchmarks::finished;
use crate::error::PipelineError;
use crate::past_run::PastRun;

/// Test points and how near their nearest training pictures are, found by what their pictures are called.
#[derive(Clone, Debug, Default)]
pub struct Near {
    /// Shard where it is known, key, similarity.
    points: Vec<(Option<String>, String, f64)>,
    /// Places of the points that have a key.
    by_key: HashMap<String, Vec<usize>>,
}

impl Near {
    /// Of points: shard where it is known, key, similarity.
    #[must_use]
    pub fn of(points: impl IntoIterator<Item = (Option<String>, String, f64)>) -> Self {
        let mut near = Self { points: points.into_iter().collect(), ..Self::default() };
        for (at, (_, key, _)) in near.points.iter().enumerate() {
            near.by_key.entry(key.clone()).or_default().push(at);
        }
        near
    }

    /// The point of a picture, by its place; `None` where there is none, or nobody knows which of several it is. Where either does not say
    /// its shard, the key alone tells.
    #[must_use]
    pub fn find(&self, shard: Option<&str>, key: &str) -> Option<usize> {
        let is_it = |at: &&usize| match (self.points[**at].0.as_deref(), shard) {
            (Some(own), Some(shard)) => own == shard,
            _ => true,
        };
        let mut found = self.by_key.get(key)?.iter().filter(is_it);
        let first = found.next()?;
        found.next().is_none().then_some(*first)
    }

    /// The similarity of the point at a place.
    #[must_use]
    pub fn similarity(&self, at: usize) -> f64 {
        self.points[at].2
    }

    /// The places of all points, with their keys.
    pub fn keys(&self) -> impl Iterator<Item = (usize, &str)> {
        self.points.iter().enumerate().map(|(at, (_, key, _))| (at, key.as_str()))
    }

    /// These, if what each one is called tells it from all others: nobody would know which of two a picture is.
    fn distinct(self) -> Result<Self, PipelineError> {
        let is_twice = |(at, (shard, key, _)): &(usize, &(Option<String>, String, f64))| {
            self.find(shard.as_deref(), key) != Some(*at)
        };
        match self.points.iter().enumerate().find(is_twice) {
            Some((_, (_, key, _))) => Err(PipelineError::usage(format!("two test points have the key {key}"))),
            None => Ok(self),
        }
    }
}

/// Reads them, and what the run has lost: the nearest sample may be among it.
///
/// # Errors
/// Nothing there, a benchmark without radii, a run that is not at its end, did not judge it or does not say how near its samples come,
/// keys that are not known any more, or two points of one key that no shard tells apart.
pub fn similarities(text: &str) -> Result<(Near, Notices), PipelineError> {
    let place = format!("--nearest {text}");
    let wrong = |what: String| PipelineError::usage(what).within(&place);
    // Whoever reads a file names it.
    let unread = |error: ColumnarError| PipelineError::usage(error).within("--nearest");
    if let Some((run, name)) = text.rsplit_once('@').filter(|_| !Path::new(text).exists()) {
        let past = PastRun::open(Path::new(run))?;
        let found = past.benchmarks.iter().position(|benchmark| benchmark.name == name);
        let names = || past.benchmarks.iter().map(|benchmark| benchmark.name.as_str()).collect::<Vec<_>>().join(", ");
        let at = found.ok_or_else(|| wrong(format!("the run judged {} and no {name}", names())))?;
        let benchmark = &past.benchmarks[at];
        if let Some(trouble) = &benchmark.trouble {
            return Err(wrong(trouble.clone()));
        }
        let lost = finished(Path::new(run), &past.ledger).map_err(|error| error.within("--nearest"))?;
        let items = past.ledger.items().map_err(PipelineError::failed)?;
        let near = items.iter().filter(|row| usize::from(row.benchmark) == at);
        let near = near.filter_map(|row| {
            let shard = benchmark.shards.get(row.point as usize).cloned().flatten();
            Some((shard, benchmark.key(row.point)?.to_owned(), row.max_similarity?))
        });
        let near = Near::of(near).distinct().map_err(|error| error.within(&place))?;
        return if near.points.is_empty() {
            Err(wrong("the run does not say how near its samples come".into()))
        } else {
            Ok((near, lost))
        };
    }
    let mut reader = EmbeddingReader::open(Path::new(text)).map_err(unread)?;
    if !reader.has_radii() {
        return Err(wrong("a benchmark without radii: `trommel radii` gives it some".into()));
    }
    let mut near = Vec::new();
    for batch in &mut reader {
        let batch = batch.map_err(unread)?;
        let named = batch.shards.into_iter().zip(batch.keys);
        near.extend(named.zip(batch.radii).filter_map(|((shard, key), radius)| Some((shard, key, radius?))));
    }
    Ok((Near::of(near).distinct().map_err(|error| error.within(&place))?, Notices::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_told_apart_by_shards_and_by_nothing_else() {
        let point = |shard: Option<&str>, key: &str| (shard.map(str::to_owned), key.to_owned(), 0.5);
        let near = Near::of([point(Some("a"), "0"), point(Some("b"), "0"), point(None, "1")]);
        let places = [(Some("b"), "0"), (Some("c"), "0"), (None, "0"), (Some("a"), "1"), (None, "1")];
        let found = places.map(|(shard, key)| near.find(shard, key));
        assert_eq!(found, [Some(1), None, None, Some(2), Some(2)]);
        for (twice, is_refused) in [(Some("b"), false), (Some("a"), true), (None, true)] {
            let near = Near::of([point(Some("a"), "0"), point(twice, "0")]);
            assert_eq!(near.distinct().is_err(), is_refused, "{twice:?}");
        }
    }
}
