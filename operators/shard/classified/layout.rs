//! What a packed set's own files say: where its tars lie (`dataset_type.txt`, `nshards.txt`), which they do not count, and what its classes are
//! called (`classnames.txt`).

use std::fs;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use super::error::{ClassifiedError, unavailable};
use crate::class_names::class_lines;
use crate::plan::{PlanError, PlanOptions, shards_in};
use crate::store::Local;
use trommel_core::durable::if_there;
use trommel_core::notices::Notices;

/// The file in a set's folder that says how many tars it has.
const COUNT: &str = "nshards.txt";

/// The tars of a set of such a kind, and the folder with what is said of all of them. A set that does not say its kind may be any.
pub(super) fn packed(root: &Path, kind: &str, read: &str) -> Result<Option<(Vec<PathBuf>, PathBuf)>, ClassifiedError> {
    let Some(folder) = own_folder(root) else { return Ok(None) };
    let above = if folder == root { root.join("..") } else { root.to_path_buf() };
    let path = above.join("dataset_type.txt");
    if let Some(other) = text(&path)?.filter(|other| other.trim().to_lowercase() != kind) {
        let what = format!("a set of kind `{}`; sets with {read} are read", other.trim());
        return Err(ClassifiedError::Malformed { path, what });
    }
    let count = count_in(&folder)?;
    // Nothing is reserved for what a file says: the first tar that is missing ends it.
    let shard = |at: usize| {
        let path = folder.join(format!("{at}.tar"));
        if path.is_file() {
            return Ok(path);
        }
        let source = format!("is not there, and nshards.txt says that there are {count}").into();
        Err(ClassifiedError::Unavailable { path, source })
    };
    let shards: Vec<PathBuf> = (0..count).map(shard).collect::<Result<_, _>>()?;
    Ok(Some((shards, above)))
}

/// The folder with a set's tars: `root` itself, or its `test`; `None` where `root` is no set.
fn own_folder(root: &Path) -> Option<PathBuf> {
    [root.to_path_buf(), root.join("test")].into_iter().find(|folder| folder.join(COUNT).is_file())
}

/// How many tars a set says that it has in its folder: no more than a plan may hold.
fn count_in(folder: &Path) -> Result<usize, ClassifiedError> {
    let path = folder.join(COUNT);
    let count = text(&path)?.unwrap_or_default();
    let most = PlanOptions::default().max_shards;
    let what = match count.trim().parse() {
        Ok(count) if count <= most => return Ok(count),
        Ok(count) => format!("{count} tars: {}", PlanError::TooMany(most)),
        Err(_) => format!("`{:.40}` is no number of tars", count.trim()),
    };
    Err(ClassifiedError::Malformed { path, what })
}

/// Notes shards that lie beside a set's own, and that its `nshards.txt` does not count; nothing where `root` is no set.
#[must_use]
pub fn uncounted(root: &Path) -> Notices {
    let mut notices = Notices::default();
    let Some(folder) = own_folder(root) else { return notices };
    // What its own reader refuses is not said here.
    let Ok(count) = count_in(&folder) else { return notices };
    let is_own = |shard: &Path| {
        let number = shard.file_name().and_then(|name| name.to_str()?.strip_suffix(".tar")?.parse::<usize>().ok());
        number.is_some_and(|number| number < count && folder.join(format!("{number}.tar")) == shard)
    };
    let beside = shards_in(&Local::default(), &folder.display().to_string()).unwrap_or_default();
    let others: Vec<&String> = beside.iter().filter(|shard| !is_own(Path::new(shard))).collect();
    if let Some(first) = others.first() {
        let text = "shards that nshards.txt does not count, not read";
        notices.note("uncounted_shards", text, format!("{first}, and there are {count}"), others.len() as u64);
    }
    notices
}

/// The names in a set's own list; none where there is no list.
pub(super) fn own_names(list: &Path) -> Result<Vec<String>, ClassifiedError> {
    let names = text(list)?.unwrap_or_default();
    let blank = |source| ClassifiedError::BlankName { path: list.to_path_buf(), source };
    Ok(class_lines(&names).map_err(blank)?.into_iter().map(str::to_owned).collect())
}

/// What a file says; `None` where there is none.
fn text(path: &Path) -> Result<Option<String>, ClassifiedError> {
    let Some(bytes) = if_there(fs::read(path)).map_err(unavailable(path))? else { return Ok(None) };
    let no_text = |error: FromUtf8Error| ClassifiedError::Malformed {
        path: path.to_path_buf(),
        what: format!("no UTF-8 from byte {} on", error.utf8_error().valid_up_to()),
    };
    String::from_utf8(bytes).map(Some).map_err(no_text)
}
