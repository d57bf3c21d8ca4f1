//! A member's name to key and extension, as WebDataset splits it.
//!
//! The base name is split at its *first* dot; dots in folders are part of the key. What the reference's expression
//! `^((?:.*/|)[^.]+)[.]([^/]*)$` makes of odd names is kept by using that expression on the raw bytes: `a/.b.jpg` has the key
//! `a/`, and `.b.jpg` none.
//!
//! ```
//! use trommel_shard::names::split;
//! assert_eq!(split(b"a.b/c.Seg.JPG"), Some((b"a.b/c".as_slice(), "seg.jpg".to_string())));
//! assert_eq!(split(b".hidden.jpg"), None);
//! ```

use std::sync::LazyLock;

use regex::bytes::Regex;

pub use trommel_core::image_kind::{FOLDER_EXTENSIONS, IMAGE_KEYS};

static KEY_AND_EXTENSION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?-u)^((?:.*/|)[^.]+)[.]([^/]*)$").expect("a fixed expression"));

static META: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?-u)^__[^/]*__(?:\n?$|/)").expect("a fixed expression"));

/// Key (raw bytes) and lower-case extension of a member's name; `None` for names that belong to no sample.
#[must_use]
pub fn split(name: &[u8]) -> Option<(&[u8], String)> {
    let parts = KEY_AND_EXTENSION.captures(name)?;
    let (key, extension) = (parts.get(1)?.as_bytes(), parts.get(2)?.as_bytes());
    Some((key, String::from_utf8_lossy(extension).to_lowercase()))
}

/// Whether a name is metadata of the archive (`__name__`, or inside a folder of that form), not part of a sample.
#[must_use]
pub fn is_meta(name: &[u8]) -> bool {
    META.is_match(name)
}

/// Whether a file is one that macOS puts beside others: `._name`, which holds the attributes of `name`, or `.DS_Store`.
#[must_use]
pub fn is_macos(name: &[u8]) -> bool {
    let base = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    base == b".DS_Store" || base.len() > 2 && base.starts_with(b"._")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names() {
        let cases: &[(&str, Option<(&str, &str)>)] = &[
            ("000010042.jpg", Some(("000010042", "jpg"))),
            ("22.05.png", Some(("22", "05.png"))),
            ("a.b/c.seg.jpg", Some(("a.b/c", "seg.jpg"))),
            (".hidden.jpg", None),
            ("noext", None),
            ("dir.d/noext", None),
            ("./x.jpg", Some(("./x", "jpg"))),
            ("X.JPG", Some(("X", "jpg"))),
            ("x.", Some(("x", ""))),
            ("a/.b.jpg", Some(("a/", "b.jpg"))),
            ("./.b.jpg", None),
            ("a/b/.c.jpg", Some(("a/b/", "c.jpg"))),
            ("a\nb.jpg", Some(("a\nb", "jpg"))),
            ("a.b\n/c.jpg", None),
            ("", None),
            (".", None),
            ("..", None),
            ("a..b", Some(("a", ".b"))),
            ("über.JPG", Some(("über", "jpg"))),
            ("x.ÄÖ", Some(("x", "äö"))),
            ("x.jpg/", None),
            ("/abs/x.jpg", Some(("/abs/x", "jpg"))),
        ];
        for (name, wanted) in cases {
            let got = split(name.as_bytes());
            let got =
                got.as_ref().map(|(key, extension)| (std::str::from_utf8(key).unwrap_or("?"), extension.as_str()));
            assert_eq!(got, *wanted, "{name:?}");
        }
        assert_eq!(split(b"a\xff.j\xff"), Some((b"a\xff".as_slice(), "j\u{fffd}".to_string())));
    }

    #[test]
    fn names_of_macos() {
        for name in ["._x.jpg", "a/._x.jpg", "./._x", ".DS_Store", "a.b/.DS_Store", "__MACOSX/a/._x.jpg"] {
            assert!(is_macos(name.as_bytes()), "{name:?}");
        }
        for name in ["x._y.jpg", "._/x.jpg", "a/.x.jpg", "DS_Store", "x.DS_Store", "._"] {
            assert!(!is_macos(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn meta_names() {
        for name in ["__index__", "__a__/x.jpg", "__x.jpg__", "____", "__a__\n", "__a__b__/x"] {
            assert!(is_meta(name.as_bytes()), "{name:?}");
        }
        for name in ["__a__.jpg", "a/__b__", "__a", "a__b__", "__a/b__", "___"] {
            assert!(!is_meta(name.as_bytes()), "{name:?}");
        }
    }
}
