//! `trommel why`.

use trommel_pipelines::why::why;

use super::{print_json, print_line};
use crate::args::WhyArgs;
use crate::outcome::{Done, Outcome};

/// Prints the fate of every sample with the key.
pub fn run(args: &WhyArgs) -> Outcome {
    for (at, row) in why(&args.run, &args.key)?.iter().enumerate() {
        if args.json {
            print_json(true, row)?;
        } else {
            let gap = if at > 0 { "\n" } else { "" };
            print_line(&format!("{gap}{row}"))?;
        }
    }
    Ok(Done::default())
}
