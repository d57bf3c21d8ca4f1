//! Pictures: what their files are called, and what they are by their first bytes, whatever they are called. The one place for both.
//!
//! ```
//! use trommel_core::image_kind::{ImageKind, image_kind};
//! let kind = image_kind(b"\xff\xd8\xff\xe0 and so on");
//! assert_eq!(kind, Some(ImageKind::Jpeg));
//! assert_eq!(kind.map(ImageKind::extension), Some("jpg"));
//! assert_eq!(image_kind(b"<html>404</html>"), None);
//! ```

/// Extensions of pictures in shards, the preferred one first: the default of `--image-key`.
pub const IMAGE_KEYS: &str = "jpg;png;jpeg;webp;gif;bmp";

/// Extensions of pictures in folders: torchvision's `IMG_EXTENSIONS`, and gif.
pub const FOLDER_EXTENSIONS: [&str; 10] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif"];

/// Kinds of pictures that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG, which may have an alpha channel.
    Png,
    /// WebP, lossy or lossless.
    WebP,
    /// GIF, of which the first frame is read.
    Gif,
    /// BMP, Windows' bitmap.
    Bmp,
    /// PPM, PGM or PBM.
    Netpbm,
    /// TIFF, big or not.
    Tiff,
}

impl ImageKind {
    /// Every kind, each once.
    pub const ALL: [Self; 7] = [Self::Jpeg, Self::Png, Self::WebP, Self::Gif, Self::Bmp, Self::Netpbm, Self::Tiff];

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Netpbm => "PPM, PGM or PBM",
            Self::Tiff => "TIFF",
        }
    }

    /// The ending of its files' names.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Netpbm => "ppm",
            Self::Tiff => "tiff",
        }
    }

    /// Its media type, where browsers show it.
    #[must_use]
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Jpeg => Some("image/jpeg"),
            Self::Png => Some("image/png"),
            Self::WebP => Some("image/webp"),
            Self::Gif => Some("image/gif"),
            Self::Bmp => Some("image/bmp"),
            Self::Netpbm | Self::Tiff => None,
        }
    }
}

/// What `bytes` begin; `None` for what is no picture of a kind that is read.
#[must_use]
pub fn image_kind(bytes: &[u8]) -> Option<ImageKind> {
    if bytes.starts_with(b"\xff\xd8\xff") {
        Some(ImageKind::Jpeg)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageKind::Png)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(ImageKind::WebP)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some(ImageKind::Gif)
    } else if bytes.starts_with(b"BM")
        && matches!(bytes.get(14..18), Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
    {
        // Two letters alone begin many a text: the second header's length goes with them.
        Some(ImageKind::Bmp)
    } else if matches!(bytes, [b'P', b'1'..=b'6', space, ..] if space.is_ascii_whitespace()) {
        Some(ImageKind::Netpbm)
    } else if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| bytes.starts_with(*magic)) {
        Some(ImageKind::Tiff)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder's pictures are all that are read; a shard's are looked for by name, and only those that browsers and trainers know.
    #[test]
    fn names_and_kinds_are_of_one_table() {
        for kind in ImageKind::ALL {
            assert!(FOLDER_EXTENSIONS.contains(&kind.extension()), "{kind:?}");
            let in_shards = IMAGE_KEYS.split(';').any(|key| key == kind.extension());
            assert_eq!(in_shards, kind.media_type().is_some(), "{kind:?}");
        }
    }
}
