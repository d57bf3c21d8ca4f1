//! The embed room.
