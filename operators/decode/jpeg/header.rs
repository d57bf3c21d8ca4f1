//! The markers of a JPEG: sizes, sampling, colour space, and whether it is all there.

use super::DecodeError;
use super::colour::Colour;

mod frame;
mod reading;

/// What the markers say.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// Pixels in a row.
    pub width: u16,
    /// Rows of pixels.
    pub height: u16,
    /// Sampling factors of each component, across and down.
    pub sampling: Vec<(u8, u8)>,
    /// How the components are to be read, by libjpeg's rules.
    pub colour: Colour,
    /// Scans up to the end of the image, or up to the one that gives all rows.
    pub scans: u64,
    /// Whether all coefficients are held before pixels come out: progressive, or components in scans of their own.
    pub buffered: bool,
    /// Whether coefficients are coded arithmetically.
    pub arithmetic: bool,
    /// Whether an end-of-image marker follows the scans.
    pub ended: bool,
    /// Why libjpeg, fed with this file and no more, does not give all rows.
    pub fault: Option<DecodeError>,
    /// Where the frame header's marker stands.
    pub frame_at: usize,
    /// Byte ranges that bear on pixels: all but application data, comments and what stands between markers.
    pub essential: Vec<(usize, usize)>,
}

impl Header {
    /// Whether both chroma components have half of luma's columns.
    pub fn halves_columns(&self) -> bool {
        self.sampling.len() == 3 && self.sampling[0].0 == 2 && self.sampling[1].0 == 1 && self.sampling[2].0 == 1
    }

    /// Bytes that decoding takes beside the encoded ones: components, coefficients where they are held, and pixels.
    pub fn scratch_bytes(&self) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        let components = self.sampling.len() as u64;
        let (across, down) = self.sampling.iter().fold((1, 1), |(h, v), &(a, b)| (h.max(a), v.max(b)));
        let padded = |side: u16, most: u8| u64::from(side).next_multiple_of(8 * u64::from(most));
        let whole = padded(self.width, across) * padded(self.height, down);
        let unit = u64::from(across) * u64::from(down);
        let samples: u64 = self.sampling.iter().map(|&(h, v)| whole / unit * u64::from(h) * u64::from(v)).sum();
        // What is sampled otherwise than by halves is brought to full size first.
        let luma_is_finest = self.sampling[0] == (across, down);
        let full = if luma_is_finest && across <= 2 && down <= 2 { 0 } else { whole * components };
        let rows = u64::from(self.width) * 8 * u64::from(down) * components * 4;
        // Coefficients are gone when pixels come.
        let held = if self.buffered { samples * 2 } else { 0 };
        samples + held.max(full + pixels * components.max(3)) + rows
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Header;

    /// Four bytes of a file are not to cost sixteen of memory that nobody counts.
    #[test]
    fn segments_that_follow_each_other_are_one_range() {
        let frame = b"\xff\xc0\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0";
        let scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\0\xff\xd9";
        let jpeg = [&b"\xff\xd8"[..], &b"\xff\xc4\0\x02".repeat(1000), b"\xff\xfe\0\x02", frame, scan].concat();
        let header = Header::read(&jpeg).unwrap();
        assert_eq!(header.essential[..2], [(0, 2), (2, 4002)]);
        assert!(header.essential.len() <= 5, "{:?}", header.essential);
        let bytes: usize = header.essential.iter().map(|(from, to)| to - from).sum();
        assert_eq!(bytes, jpeg.len() - 4, "all but the comment");
    }
}
