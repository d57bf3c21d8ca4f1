//! Members of the tars that tests and benches write.

use std::io::Write;
use std::path::Path;

/// Appends a regular file that all may read; its time is 0, so that the same members give the same bytes.
pub fn append(tar: &mut tar::Builder<impl Write>, name: impl AsRef<Path>, data: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(0o444);
    tar.append_data(&mut header, name, data).unwrap();
}
