//! What was odd about a shard: in one line for the manifest and for people, and counted.

use std::io::BufRead;

use super::promised::Promised;
use super::samples::{MemberCounts, SampleReader};
use super::tar::{Oddities, TarEnd};
use trommel_core::notices::Notices;
use trommel_core::sample::{Reason, ShardOutcome};

/// How a tar's reading ended: complete with a remark, or rejected where files but no sample were in it.
pub(super) fn outcome<R: BufRead>(samples: &SampleReader<'_, R>) -> ShardOutcome {
    let MemberCounts { nameless, macos, links, unread, .. } = *samples.counts();
    let Oddities { sparse, oversized_headers, .. } = samples.tar().oddities();
    let remark = remark(samples);
    // Where nothing was read, bytes behind the end mark say that this is no empty tar.
    let damaged = matches!(
        samples.tar().end(),
        Some(
            TarEnd::Damaged { .. } | TarEnd::Marked { behind: Some(_), .. } | TarEnd::LoneZeroBlock { more: true, .. }
        )
    );
    let files = nameless + macos + links + unread + sparse + oversized_headers;
    match remark {
        Some(remark) if samples.numbered() == 0 && (files > 0 || damaged) => {
            ShardOutcome::Rejected(Reason::new("no_samples", remark))
        }
        remark => ShardOutcome::Complete(remark),
    }
}

/// Members that are passed over for their type.
const UNREAD: &str = "members of types that webdataset does not read passed over";

/// Everything odd about a shard in one line; `None` when nothing is.
fn remark<R: BufRead>(samples: &SampleReader<'_, R>) -> Option<String> {
    let mut remarks = Vec::new();
    let (tar, count) = (samples.tar(), samples.numbered());
    let MemberCounts { repeated, nameless, macos, links, unread, .. } = *samples.counts();
    let Oddities { sparse, bad_pax, oversized_headers } = tar.oddities();
    match tar.end() {
        Some(TarEnd::Marked { behind, .. }) => remarks.extend(behind.clone()),
        Some(TarEnd::LoneZeroBlock { offset, more }) => {
            let more = if *more { ", what follows is not read" } else { "" };
            remarks.push(format!("one zero block in place of two at byte {offset}{more}"));
        }
        Some(TarEnd::NoMark { offset }) => remarks.push(format!("no end mark: ends at byte {offset}")),
        Some(TarEnd::Damaged { offset, what }) => remarks.push(format!("cut off at byte {offset}: {what}")),
        None => {}
    }
    let counted = [
        (repeated, "repeated members"),
        (sparse, "sparse members passed over"),
        (unread, UNREAD),
        (oversized_headers, "members with too large a header passed over"),
        (bad_pax, "malformed PAX headers"),
        (macos, "macOS files passed over"),
    ];
    remarks.extend(counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what}: {n}")));
    if count == 0 {
        let instead = [(nameless, "files without key and extension"), (links, "links, which `tar -h` packs as files")];
        let instead = instead.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
        let instead = instead.collect::<Vec<_>>().join(", ");
        remarks.insert(0, if instead.is_empty() { "no sample".into() } else { format!("no sample ({instead})") });
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

/// What was lost of a tar, or passed over in it; `name` is the shard's.
pub(super) fn found<R: BufRead>(samples: &SampleReader<'_, R>, name: &str) -> Notices {
    let mut notices = Notices::default();
    let MemberCounts {
        repeated,
        nameless,
        macos,
        first_macos,
        links,
        first_link,
        unread,
        first_unread,
        unreadable_json,
        first_json,
        foreign_texts,
        first_text,
        foreign_keys,
        first_key,
    } = samples.counts();
    let Oddities { sparse, bad_pax, oversized_headers } = samples.tar().oddities();
    if samples.numbered() > 0 {
        match samples.tar().end() {
            Some(TarEnd::Damaged { offset, what }) => {
                let place = format!("{name}: at byte {offset}: {what}");
                notices.loss("shard_cut_off", "shards cut off or damaged behind their first samples", place, 1, 0);
            }
            // Whoever put one behind the other asked for all.
            Some(TarEnd::Marked { is_tar: true, .. }) => {
                let text = "tars behind the end mark of another one, which are not read";
                notices.file_loss("tar_behind_end", text, name, None);
            }
            Some(TarEnd::Marked { behind: Some(what), is_tar: false }) => {
                notices.note(
                    "bytes_behind_end",
                    "shards with bytes behind their end mark",
                    format!("{name}: {what}"),
                    1,
                );
            }
            Some(TarEnd::LoneZeroBlock { offset, more: true }) => {
                let place = format!("{name}: behind byte {offset}");
                notices.note("bytes_behind_end", "shards with bytes behind their end mark", place, 1);
            }
            // A whole tar, as far as anybody can tell.
            Some(
                TarEnd::Marked { behind: None, is_tar: false }
                | TarEnd::LoneZeroBlock { more: false, .. }
                | TarEnd::NoMark { .. },
            )
            | None => {}
        }
    }
    notices.loss("oversized_headers", "members with too large a header passed over", name, oversized_headers, 0);
    // By POSIX an unknown type is a file's: this may be what was asked for.
    notices.loss("unread_members", UNREAD, format!("{name}: {first_unread}"), *unread, 0);
    notices.note("sparse_members", "sparse members passed over", name, sparse);
    notices.note("bad_pax_headers", "malformed PAX headers", name, bad_pax);
    notices.note("repeated_members", "repeated members, each of which begins a sample", name, *repeated);
    notices.note("nameless_files", "files without key and extension passed over", name, *nameless);
    let text = "macOS files (`._name`, `.DS_Store`) passed over";
    notices.note("macos_files", text, format!("{name}: {first_macos}"), *macos);
    notices.note("links", "links in tars passed over", format!("{name}: {first_link}"), *links);
    note_json(&mut notices, format!("{name}/{first_json}"), *unreadable_json);
    note_text(&mut notices, format!("{name}/{first_text}"), *foreign_texts);
    let text = "samples whose key is not UTF-8: what is not stands in ledgers and splits as U+FFFD";
    notices.note("key_not_utf8", text, format!("{name}/{first_key}"), *foreign_keys);
    notices
}

/// Notes captions that are not UTF-8, as webdataset and the tokenizers want them.
pub(super) fn note_text(notices: &mut Notices, place: String, count: u64) {
    let text = "captions that are not UTF-8: what is not stands in them as U+FFFD";
    notices.note("caption_not_utf8", text, place, count);
}

/// Notes samples whose json cannot be read.
pub(super) fn note_json(notices: &mut Notices, place: String, count: u64) {
    let text = "samples whose json cannot be read: uid, url and caption that stand in it are not known";
    notices.note("unreadable_json", text, place, count);
}

/// What is lost by a shard's end: all of it where it was rejected, or what its statistics promised and did not come.
pub(super) fn lost(outcome: &ShardOutcome, came: u32, promised: Promised, name: &str) -> Notices {
    let mut notices = Notices::default();
    if promised == Promised::Unreadable {
        let text = "shards whose `_stats.json` cannot be read: whether samples are missing is not known";
        notices.note("unreadable_statistics", text, name, 1);
    }
    let (promised, came) = (promised.samples(), u64::from(came));
    let missing = promised.unwrap_or(0).saturating_sub(came);
    match outcome {
        ShardOutcome::Rejected(reason) => {
            let text = format!("shards rejected ({})", reason.code);
            let (code, place) = (format!("shard_{}", reason.code), format!("{name}: {}", reason.detail));
            notices.file_loss(&code, &text, place, promised.is_some().then_some(missing.max(1)));
        }
        ShardOutcome::Complete(_) if missing > 0 => {
            let text = "shards with fewer samples than their `_stats.json` promises";
            let place = format!("{name}: {came} of {}", promised.unwrap_or(0));
            notices.loss("fewer_samples", text, place, 1, missing);
        }
        ShardOutcome::Complete(_) if promised.is_some_and(|promised| promised < came) => {
            let text = "shards with more samples than their `_stats.json` promises";
            notices.note("more_samples", text, format!("{name}: {came} of {}", promised.unwrap_or(0)), 1);
        }
        ShardOutcome::Complete(_) if came == 0 => {
            notices.note("empty_shards", "shards that are tars without any file", name, 1);
        }
        ShardOutcome::Complete(_) | ShardOutcome::Unavailable(_) | ShardOutcome::Changed(_) => {}
    }
    notices
}
