//! What a file is that was given as a shard and holds no tar, by its first bytes.
//!
//! ```
//! use trommel_shard::content::no_tar;
//! let reason = no_tar(b"<!DOCTYPE html><title>403 Forbidden</title>");
//! assert_eq!((reason.code.as_str(), reason.detail.as_str()), ("html_page", "an HTML page, not a tar"));
//! ```

use super::header::{BLOCK, Header};
use trommel_core::image_kind::image_kind;
use trommel_core::sample::Reason;

/// Whether these bytes begin with a tar's header, or with its end mark.
#[must_use]
pub fn starts_a_tar(first: &[u8]) -> bool {
    let Some(block) = first.first_chunk::<BLOCK>() else { return false };
    block.iter().all(|&byte| byte == 0) || Header::parse(block).is_ok()
}

/// What these first bytes of a shard are, which are no tar's.
#[must_use]
pub fn no_tar(first: &[u8]) -> Reason {
    let text = first.trim_ascii_start();
    let (code, what) = match first {
        [] => ("empty_file", "the file is empty"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => ("zip_archive", "a zip archive, not a tar"),
        [b'P', b'A', b'R', b'1' | b'E', ..] => ("parquet_file", "a Parquet file, not a tar"),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => ("arrow_file", "an Arrow file, not a tar"),
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => ("seven_zip_archive", "a 7z archive, not a tar"),
        [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => ("rar_archive", "a RAR archive, not a tar"),
        [4, 0x22, 0x4d, 0x18, ..] => ("lz4_file", "lz4, which is not read: use gzip, zstd, xz, bzip2 or none"),
        [0x89, b'H', b'D', b'F', ..] => ("hdf5_file", "an HDF5 file, not a tar"),
        _ if image_kind(first).is_some() => ("picture_file", "a picture, not a tar"),
        _ if first.starts_with(b"version https://git-lfs.github.com/spec/") => {
            ("lfs_pointer", "a Git LFS pointer, not the file itself: `git lfs pull` fetches it")
        }
        _ if is_html(text) => ("html_page", "an HTML page, not a tar"),
        _ if text.starts_with(b"<?xml") || text.starts_with(b"<Error") => {
            ("xml_document", "an XML document, not a tar")
        }
        _ if text.starts_with(b"{") || text.starts_with(b"[") => ("json_document", "a JSON document, not a tar"),
        _ => {
            let why = match first.first_chunk::<BLOCK>().map(Header::parse) {
                Some(Err(why)) => why.to_string(),
                _ => format!("{} bytes, fewer than a header has", first.len()),
            };
            let begins = first.get(..16).unwrap_or(first).escape_ascii();
            return Reason::new("not_a_tar", format_args!("not a tar: {why}; begins with \"{begins}\""));
        }
    };
    Reason::new(code, what)
}

fn is_html(text: &[u8]) -> bool {
    let begins = |tag: &&[u8]| text.get(..tag.len()).is_some_and(|text| text.eq_ignore_ascii_case(tag));
    [&b"<!doctype html"[..], b"<html", b"<head", b"<body", b"<title"].iter().any(begins)
}
