//! The columnar room.
