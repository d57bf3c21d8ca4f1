//! `trommel why`.

use std::path::Path;

use trommel_core::escape::escape_controls;
use trommel_core::text::thousands;
use trommel_pipelines::why::why;
use trommel_pipelines::why_all::{WhyAllReport, why_all};

use super::{print_json, print_line};
use crate::args::WhyArgs;
use crate::outcome::{Done, Outcome};

/// Prints the fate of every sample with the key, or writes the steps of all.
pub fn run(args: &WhyArgs) -> Outcome {
    if let (true, Some(out)) = (args.all, &args.out) {
        return all(args, out);
    }
    for (at, row) in why(&args.run, args.key.as_deref().unwrap_or_default())?.iter().enumerate() {
        if args.json {
            print_json(true, row)?;
        } else {
            let gap = if at > 0 { "\n" } else { "" };
            print_line(&format!("{gap}{row}"))?;
        }
    }
    Ok(Done::default())
}

fn all(args: &WhyArgs, out: &Path) -> Outcome {
    let report = why_all(&args.run, out)?;
    let WhyAllReport { file, rows, trained, left_over, skipped, not_yet, steps, batch, .. } = &report;
    let [rows, trained, left_over, skipped, not_yet, steps] =
        [rows, trained, left_over, skipped, not_yet, steps].map(|count| thousands(*count));
    eprintln!(
        "trommel: {}: {rows} rows: {trained} in the {steps} steps of {batch} that are done, {left_over} left over, {skipped} skipped, {not_yet} whose \
         turn has not come",
        escape_controls(file)
    );
    let WhyAllReport { untold_samples: samples, untold_places: places, untold_because: because, .. } = &report;
    let why =
        because.as_ref().map(|why| format!("{} samples have no row: {}", thousands(*samples), escape_controls(why)));
    if let Some(why) = &why {
        eprintln!("trommel:   {why}");
    }
    print_json(args.json, &report)?;
    let unfinished = (*places > 0).then(|| {
        format!(
            "who had {} places of the steps that are done cannot be told before the run has judged more",
            thousands(*places)
        )
    });
    Ok(Done { unfinished, ..Done::default() })
}
