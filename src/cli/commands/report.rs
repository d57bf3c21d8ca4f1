//! `trommel report`.

use trommel_core::durable;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::report::{ReportOptions, gather, page, picture};

use crate::args::ReportArgs;
use crate::outcome::{Done, Outcome};

/// Pairs of pictures for each benchmark in the one picture, and on the page.
const PAIRS: (usize, usize) = (10, 20);

/// Writes the page, or with a name that ends in `.svg` the picture.
pub fn run(args: &ReportArgs) -> Outcome {
    let extension = args.out.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
    let drawn = match extension.as_str() {
        "svg" => true,
        "html" | "htm" => false,
        _ => {
            let out = args.out.display();
            return Err(PipelineError::Usage(format!("-o {out}: name it .html (the page) or .svg (the picture)")));
        }
    };
    let pairs_per_benchmark = if drawn { PAIRS.0 } else { PAIRS.1 };
    let gathered = gather(&args.run, &ReportOptions { pairs_per_benchmark, ..ReportOptions::default() })?;
    for trouble in &gathered.troubles {
        tracing::warn!("{trouble}");
    }
    let text = if drawn { picture(&gathered) } else { page(&gathered) };
    durable::write(&args.out, text.as_bytes())
        .map_err(|error| PipelineError::Failed(format!("{}: {error}", args.out.display())))?;
    eprintln!("trommel: wrote {}", args.out.display());
    Ok(Done::default())
}
