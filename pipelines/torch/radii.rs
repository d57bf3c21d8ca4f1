//! Radii of pictures: what is given as pictures is embedded first, into `OUT/embedded`, once.

use std::sync::Arc;

use trommel_core::stop::Stop;
use trommel_pipelines::benchmarks::is_pictures;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::progress::Progress;
use trommel_pipelines::radii::{EMBEDDED, RadiiConfig};

use crate::prune::embed_pictures;

/// The same with every folder of pictures embedded, as `judge` says; `progress_of` shows each by its name.
///
/// # Errors
/// Whatever embedding may end with.
pub fn with_embedded(
    config: &RadiiConfig,
    judge: &JudgeConfig,
    stop: &Stop,
    progress_of: &dyn Fn(&str) -> Arc<Progress>,
) -> Result<RadiiConfig, PipelineError> {
    let mut ready = config.clone();
    let embedded = config.out.join(EMBEDDED);
    let alone = ready.references.len() == 1;
    let references = ready.references.iter_mut().map(|named| {
        let into = if alone { embedded.join("reference") } else { embedded.join("references").join(&named.name) };
        let name = if alone { "the reference set".to_owned() } else { format!("reference {}", named.name) };
        (name, &mut named.path, into)
    });
    let into = |name: &str| embedded.join("benchmarks").join(name);
    let benchmarks = ready.benchmarks.iter_mut().map(|named| (named.name.clone(), &mut named.path, into(&named.name)));
    for (name, path, into) in references.chain(benchmarks) {
        if is_pictures(path)? {
            let pictures = std::mem::replace(path, into.clone());
            embed_pictures(judge, &pictures, into, stop, &progress_of(&name))?;
        }
    }
    Ok(ready)
}
