//! The synth room.
