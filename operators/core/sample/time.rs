//! A sample's place in time, and whose part of the work its shard is.

/// Logical time of the graph: `pass << 40 | ordinal of the shard in the plan`.
pub type Time = u64;

/// Bits of a [`Time`] that hold the shard's ordinal.
pub const ORDINAL_BITS: u32 = 40;

/// The time of shard `ordinal` in pass `pass`.
#[must_use]
pub const fn time_of(pass: u32, ordinal: u64) -> Time {
    ((pass as u64) << ORDINAL_BITS) | ordinal
}

/// The pass of a time.
#[must_use]
pub const fn pass_of(time: Time) -> u32 {
    (time >> ORDINAL_BITS) as u32
}

/// The shard's ordinal in the plan.
#[must_use]
pub const fn ordinal_of(time: Time) -> u64 {
    time & ((1 << ORDINAL_BITS) - 1)
}

/// Whether a shard belongs to one of several parts of the work, by its ordinal alone: a process of a cluster, a task of an array.
#[must_use]
pub const fn is_in_part(ordinal: u64, part: u64, parts: u64) -> bool {
    ordinal % parts == part
}
