//! A plan's shards as arguments again: what a command prints for another one to take.
//!
//! A shard's name is its path from its argument's literal folder on, so not every pattern that finds the files finds them under these names. What is
//! written here does, in the plan's order, for this program and for whoever expands the braces before it: `NAME=` stands for a folder in names.

use trommel_shard::plan::{Plan, ShardRef, is_shard_name};

/// Arguments that are still read at a glance.
const MAX_ARGUMENTS: usize = 4;
/// Ranges of numbers in one of them.
const MAX_RANGES: usize = 8;

/// The arguments; `None` where names do not follow from where the files lie, where patterns would be longer than anybody reads, or where
/// a path needs quotes.
///
/// ```
/// use trommel_pipelines::plan_arguments::as_given;
/// use trommel_shard::plan::{Plan, ShardRef};
/// let shard = |ordinal| ShardRef { ordinal, name: format!("{ordinal:05}.tar"), url: format!("laion/{ordinal:05}.tar"), bytes: None };
/// let plan = Plan { shards: (0..100).map(shard).collect(), ..Plan::default() };
/// assert_eq!(as_given(&plan).unwrap(), ["laion/{00000..00099}.tar"]);
/// ```
#[must_use]
pub fn as_given(plan: &Plan) -> Option<Vec<String>> {
    let mut arguments: Vec<Argument<'_>> = Vec::new();
    for shard in &plan.shards {
        let next = Argument::of(shard)?;
        match arguments.last_mut().filter(|last| (last.alias, last.folder) == (next.alias, next.folder)) {
            Some(last) => last.files.extend(next.files),
            None => arguments.push(next),
        }
        if arguments.len() > MAX_ARGUMENTS {
            return None;
        }
    }
    arguments.iter().map(Argument::written).collect()
}

/// Files of one folder.
struct Argument<'p> {
    alias: &'p str,
    folder: &'p str,
    files: Vec<&'p str>,
}

impl<'p> Argument<'p> {
    fn of(ShardRef { name, url, .. }: &'p ShardRef) -> Option<Self> {
        let (alias, file) = name.rsplit_once('/').unwrap_or(("", name));
        let folder = url.strip_suffix(file)?;
        let is_folder = folder.is_empty() || folder.ends_with('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:+@%".contains(c);
        let is_plain = url.chars().all(plain) && !url.contains("::") && !alias.contains(['/', ':', '+', '@', '%']);
        (is_folder && is_plain && is_shard_name(file)).then_some(Self { alias, folder, files: vec![file] })
    }

    fn written(&self) -> Option<String> {
        let name = if self.alias.is_empty() { String::new() } else { format!("{}=", self.alias) };
        Some(format!("{name}{}{}", self.folder, ranges(&self.files)?))
    }
}

/// `00000.tar`, `{00000..00007}.tar`, `{{00000..00007},00009}.tar`.
fn ranges(files: &[&str]) -> Option<String> {
    if let [file] = files {
        return Some((*file).to_owned());
    }
    let digits = |file: &str| file.bytes().skip_while(|b| !b.is_ascii_digit()).take_while(u8::is_ascii_digit).count();
    let first = files.first()?;
    let (at, width) = (first.find(|c: char| c.is_ascii_digit())?, digits(first));
    let (before, after) = (&first[..at], &first[at + width..]);
    let mut found: Vec<(u64, u64)> = Vec::new();
    for file in files {
        let number = file.strip_prefix(before)?.strip_suffix(after)?;
        let is_number = number.len() == width && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| is_number)?;
        match found.last_mut().filter(|(_, last)| *last + 1 == number) {
            Some((_, last)) => *last = number,
            None => found.push((number, number)),
        }
    }
    let range = |(from, to): &(u64, u64)| match from == to {
        true => format!("{from:0width$}"),
        false => format!("{{{from:0width$}..{to:0width$}}}"),
    };
    let all: Vec<String> = found.iter().map(range).collect();
    match all.as_slice() {
        [one] => Some(format!("{before}{one}{after}")),
        many if many.len() <= MAX_RANGES => Some(format!("{before}{{{}}}{after}", many.join(","))),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use trommel_shard::plan::{PlanOptions, expand};
    use trommel_shard::store::Stores;

    use super::*;

    /// What is written gives the same names and the same files, in the same order.
    #[test]
    fn what_is_written_is_the_plan_again() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        for part in ["a", "b/en", "b/de", "c d"] {
            std::fs::create_dir_all(format!("{root}/{part}")).unwrap();
            for number in [0, 1, 2, 5, 7, 8, 10] {
                std::fs::write(format!("{root}/{part}/{number:03}.tar"), "").unwrap();
            }
            std::fs::write(format!("{root}/{part}/pool-v2_00.tar.gz"), "").unwrap();
        }
        let plan = |words: &[String]| expand(words, &Stores::default(), &PlanOptions::default()).unwrap();
        for (words, due) in [
            (vec!["@/a/{000..002}.tar"], Some(vec!["@/a/{000..002}.tar"])),
            (vec!["@/a/0*.tar"], Some(vec!["@/a/{{000..002},005,{007..008},010}.tar"])),
            (vec!["@/a/005.tar"], Some(vec!["@/a/005.tar"])),
            (vec!["@/a/{002,001}.tar"], Some(vec!["@/a/{002,001}.tar"])),
            (vec!["@/b/*/00[12].tar"], Some(vec!["de=@/b/de/{001..002}.tar", "en=@/b/en/{001..002}.tar"])),
            (
                vec!["pool=@/a/000.tar", "@/b/en/{007..008}.tar"],
                Some(vec!["pool=@/a/000.tar", "@/b/en/{007..008}.tar"]),
            ),
            (vec!["x=@/b/*/000.tar"], None),
            (vec!["@/c d/000.tar"], None),
            (vec!["@/a"], None),
        ] {
            let full = |words: Vec<&str>| words.iter().map(|it| it.replace('@', &root)).collect::<Vec<_>>();
            let words = full(words);
            let whole = plan(&words);
            let written = as_given(&whole);
            assert_eq!(written, due.map(full), "{words:?}");
            let Some(written) = written else { continue };
            assert_eq!(plan(&written), whole, "{words:?}");
            // Each shard by itself, as a trainer asks for it.
            let single = |word: &String| trommel_shard::braces::expand(word, 99).unwrap();
            let alone: Vec<String> =
                written.iter().flat_map(single).map(|it| plan(&[it]).shards[0].name.clone()).collect();
            assert_eq!(alone, whole.shards.iter().map(|shard| shard.name.clone()).collect::<Vec<_>>());
        }
    }
}
