//! The prune room.
