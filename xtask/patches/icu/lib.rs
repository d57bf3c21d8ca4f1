//! `icu` without calendars, plurals, collation and the rest of it: `plsfix` (the port of ftfy by which open_clip's tokenizer repairs
//! captions) normalises text and uses nothing else. Thirty crates less are built for it.
#![forbid(missing_docs)]

pub use icu_normalizer as normalizer;
