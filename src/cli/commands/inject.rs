//! `trommel inject`.

use trommel_pipelines::error::PipelineError;
use trommel_pipelines::inject::{InjectConfig, inject};
use trommel_pipelines::labelled::ClassNames;
use trommel_pipelines::lists;
use trommel_report::text::thousands;

use super::print_json;
use crate::args::InjectArgs;
use crate::environment;
use crate::outcome::{Done, Outcome, tell};

/// Writes class folders as shards.
pub fn run(args: &InjectArgs) -> Outcome {
    let made = inject(&config(args)?)?;
    eprintln!(
        "trommel: {} samples in {} shards: {} of {} pictures, {} of each; as SHARDS: {}",
        thousands(made.samples),
        thousands(made.shards),
        thousands(made.items),
        thousands(made.pictures),
        if made.copies == 1 { "one copy".into() } else { format!("{} copies", made.copies) },
        made.argument
    );
    tell(&made.notices);
    print_json(args.json, &made)?;
    Ok(Done::default())
}

fn config(args: &InjectArgs) -> Result<InjectConfig, PipelineError> {
    let of_folder = || args.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(InjectConfig {
        folder: environment::named(&args.folder)?,
        out: args.out.clone(),
        set: args.name.clone().unwrap_or_else(of_folder),
        caption: args.caption.clone(),
        classes: ClassNames {
            list: args.classnames.as_deref().map(lists::class_names).transpose()?.unwrap_or_default(),
            table: args.class_table.as_deref().map(lists::class_table).transpose()?.unwrap_or_default(),
        },
        items: args.items.as_deref().map(str::parse).transpose()?,
        copies: args.copies,
        seed: args.seed,
        shard_samples: args.shard_samples,
    })
}
