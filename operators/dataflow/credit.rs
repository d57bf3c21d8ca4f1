//! Credit: bytes in flight, bounded.

/// Bytes held by one sample; returned on drop.
#[derive(Debug)]
pub struct Permit;
