//! How near each test picture's nearest training picture is, by its key.
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

/// Reads them, and what the run has lost: the nearest sample may be among it.
///
/// # Errors
/// Nothing there, a benchmark without radii, a run that is not at its end, did not judge it or does not say how near its samples come,
/// keys that are not known any more, or two points of one key.
pub fn similarities(text: &str) -> Result<(HashMap<String, f64>, Notices), PipelineError> {
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
        let near = near.filter_map(|row| Some((benchmark.key(row.point)?.to_owned(), row.max_similarity?)));
        let near = by_key(near).map_err(|error| error.within(&place))?;
        return if near.is_empty() {
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
        near.extend(batch.keys.into_iter().zip(batch.radii).filter_map(|(key, radius)| Some((key, radius?))));
    }
    Ok((by_key(near).map_err(|error| error.within(&place))?, Notices::default()))
}

/// Each point's similarity by its key, which must be no other point's: nobody knows which of the two a picture is.
fn by_key(points: impl IntoIterator<Item = (String, f64)>) -> Result<HashMap<String, f64>, PipelineError> {
    let mut near = HashMap::new();
    for (key, similarity) in points {
        if near.insert(key.clone(), similarity).is_some() {
            return Err(PipelineError::usage(format!("two test points have the key {key}")));
        }
    }
    Ok(near)
}
