//! `trommel inject`.

use std::path::Path;

use trommel_core::text::thousands;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::inject::{InjectConfig, inject, is_set_name};
use trommel_pipelines::labelled::ClassNames;
use trommel_pipelines::lists;

use super::{note_kept_seed, print_json};
use crate::args::InjectArgs;
use crate::environment;
use crate::outcome::{Done, Outcome, Read, tell};

/// Writes class folders as shards.
pub fn run(args: &InjectArgs, given: &[String]) -> Outcome {
    let mut made = inject(&config(args)?)?;
    note_kept_seed(&mut made.notices, given, args.items.is_some());
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
    let read = Read { rejected: 0, samples: made.pictures, notices: &made.notices };
    Ok(Done { too_many_rejects: read.too_many(args.max_rejects), ..Done::default() })
}

/// The set's name where none is given: that of its folder, `.` and links resolved as far as they have no name of their own.
fn of_folder(folder: &Path) -> Result<String, PipelineError> {
    let whole = if folder.file_name().is_none() { folder.canonicalize().ok() } else { None };
    let name = whole.as_deref().unwrap_or(folder).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match is_set_name(&name) {
        true => Ok(name),
        false => Err(PipelineError::Usage(format!(
            "{}: give the set a name by --name (letters, digits, `_` and `-`): it stands in keys, and the last word of this path, `{name}`, cannot",
            folder.display()
        ))),
    }
}

fn config(args: &InjectArgs) -> Result<InjectConfig, PipelineError> {
    let folder = environment::named(&args.folder)?;
    Ok(InjectConfig {
        set: args.name.clone().map_or_else(|| of_folder(&folder), Ok)?,
        folder,
        out: args.out.clone(),
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
