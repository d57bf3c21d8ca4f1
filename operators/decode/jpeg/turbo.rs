//! The system's libjpeg-turbo, for pixels that equal Pillow's to the bit.
//!
//! Pillow decodes with the accurate inverse DCT and smooth chroma upsampling, and passes over what libjpeg calls warnings
//! (a damaged scan is shown as far as it goes). This asks for the same. Four components come out as CMYK, of which
//! [`super::colour`] makes RGB as Pillow does; all else comes out as RGB by libjpeg's own conversion.
//!
//! Any libjpeg-turbo from 2.1 on gives the same pixels; 2.0 interpolates 4:4:0 chroma otherwise.
//!
//! To build: `apt-get install libturbojpeg0-dev pkg-config`, `dnf install turbojpeg-devel pkgconf` or
//! `brew install jpeg-turbo pkgconf`.

use std::ffi::{CStr, c_int};

use turbojpeg::raw;

use super::colour::{Colour, to_rgb};
use super::header::Header;
use super::{DecodeError, corrupt};

/// A decompressor of the library's, freed on drop.
struct Handle(raw::tjhandle);

impl Handle {
    fn new() -> Result<Self, DecodeError> {
        // SAFETY: takes nothing; null means that it failed.
        let handle = unsafe { raw::tjInitDecompress() };
        if handle.is_null() { Err(corrupt("libjpeg-turbo gave no decompressor")) } else { Ok(Self(handle)) }
    }

    /// What went wrong in the last call, or nothing if that was only a warning.
    fn outcome(&self, returned: c_int) -> Result<(), DecodeError> {
        // SAFETY: the handle lives; the message is a C string that the handle owns until its next call.
        unsafe {
            if returned == 0 || raw::tjGetErrorCode(self.0) == raw::TJERR_TJERR_WARNING as c_int {
                return Ok(());
            }
            let message = raw::tjGetErrorStr2(self.0);
            Err(corrupt(if message.is_null() {
                "libjpeg-turbo".into()
            } else {
                CStr::from_ptr(message).to_string_lossy()
            }))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is destroyed once.
        unsafe { raw::tjDestroy(self.0) };
    }
}

/// RGB pixels of a JPEG, u8\[height, width, 3\].
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Vec<u8>, DecodeError> {
    let four = matches!(header.colour, Colour::Cmyk | Colour::Ycck);
    let (format, components) = if four { (raw::TJPF_TJPF_CMYK, 4) } else { (raw::TJPF_TJPF_RGB, 3) };
    let (width, height) = (c_int::from(header.width), c_int::from(header.height));
    let row = usize::from(header.width) * components;
    // What libjpeg leaves unwritten when a scan breaks off is grey.
    let mut stored = vec![128u8; row * usize::from(header.height)];
    let handle = Handle::new()?;
    let (mut wide, mut high, mut subsampling, mut space) = (0, 0, 0, 0);
    // SAFETY: the pointers and lengths are those of live slices and locals. The decompressor writes at most `height` rows
    // of `width` pixels, whatever the file says, and `stored` has room for these.
    let returned = unsafe {
        // It returns an error for sampling factors without a name, which decode all the same: its sizes are what counts.
        raw::tjDecompressHeader3(
            handle.0,
            bytes.as_ptr(),
            bytes.len() as _,
            &mut wide,
            &mut high,
            &mut subsampling,
            &mut space,
        );
        if (wide, high) != (width, height) {
            handle.outcome(-1)?;
            return Err(corrupt("headers that contradict each other"));
        }
        let (pitch, flags) = (row as c_int, raw::TJFLAG_ACCURATEDCT as c_int);
        let (from, to) = (bytes.as_ptr(), stored.as_mut_ptr());
        raw::tjDecompress2(handle.0, from, bytes.len() as _, to, width, pitch, height, format as c_int, flags)
    };
    handle.outcome(returned)?;
    // Luma and chroma of inverted CMY have become inverted CMY already.
    Ok(if four { to_rgb(stored, Colour::Cmyk) } else { stored })
}
