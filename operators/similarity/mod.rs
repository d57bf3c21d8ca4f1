//! The similarity room.
