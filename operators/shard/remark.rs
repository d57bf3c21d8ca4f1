//! What was odd about a shard, in one line for the manifest and for people.

use std::io::BufRead;

use super::header::BLOCK;
use super::samples::{Counts, SampleReader};
use super::tar::{Oddities, TarEnd};

/// Everything odd about a shard in one line; `None` when nothing is.
pub(super) fn remark<R: BufRead>(samples: &SampleReader<'_, R>) -> Option<String> {
    let mut remarks = Vec::new();
    let (tar, count) = (samples.tar(), samples.numbered());
    let Counts { repeated, nameless } = samples.counts();
    let Oddities { sparse, bad_pax, oversized_headers } = tar.oddities();
    match tar.end() {
        Some(TarEnd::Marked { behind }) => remarks.extend(behind.clone()),
        Some(TarEnd::LoneZeroBlock { offset, more }) => {
            let more = if *more { ", what follows is not read" } else { "" };
            remarks.push(format!("one zero block in place of two at byte {offset}{more}"));
        }
        Some(TarEnd::NoMark { offset: 0 }) => remarks.push("the file is empty".into()),
        Some(TarEnd::NoMark { offset }) => remarks.push(format!("no end mark: ends at byte {offset}")),
        // No header before it was one.
        Some(TarEnd::Damaged { offset, what }) if *offset < BLOCK as u64 => remarks.push(format!("not a tar: {what}")),
        Some(TarEnd::Damaged { offset, what }) => remarks.push(format!("cut off at byte {offset}: {what}")),
        None => {}
    }
    let counted = [
        (repeated, "repeated members"),
        (sparse, "sparse members passed over"),
        (oversized_headers, "members with too large a header passed over"),
        (bad_pax, "malformed PAX headers"),
    ];
    remarks.extend(counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what}: {n}")));
    if count == 0 {
        let nameless =
            if nameless > 0 { format!(" ({nameless} files without key and extension)") } else { String::new() };
        remarks.insert(0, format!("no sample{nameless}"));
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}
