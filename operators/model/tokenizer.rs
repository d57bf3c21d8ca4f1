//! Captions to token ids, as open_clip's `SimpleTokenizer` does it.
//!
//! The caption is cleaned ([`super::clean`]), split into words, each word byte-pair encoded with CLIP's 49,408 entries;
//! start, tokens, end, zeros; cut to the context, the end token kept. Vocabulary and pair encoding are the crate
//! `instant-clip-tokenizer`'s (MIT, as is OpenAI's vocabulary in it).
//!
//! Pair encoding is quadratic in a word's length. Words are encoded one at a time until the context is full, and one
//! above 2,048 bytes is cut there: far beyond what 77 tokens can hold.

use std::fmt;

use instant_clip_tokenizer as pairs;
use regex::Regex;

use super::clean::clean;
use super::family::Captions;

/// Ids of a caption: every CLIP reads 77.
pub const CONTEXT_LENGTH: usize = 77;

/// A word is cut here, in bytes.
const MAX_WORD_BYTES: usize = 2048;

/// Markers, English contractions, runs of letters, single digits, runs of anything else.
const WORDS: &str = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// CLIP's byte-pair encoder. Making one takes tens of milliseconds; share it.
pub struct Tokenizer {
    inner: pairs::Tokenizer,
    words: Regex,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tokenizer {
    /// Number of ids in CLIP's vocabulary, start and end included.
    pub const IDS: i64 = 49_408;

    /// With CLIP's vocabulary.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: pairs::Tokenizer::new(), words: Regex::new(WORDS).expect("the pattern is a constant") }
    }

    /// i32\[77\]: start, tokens, end, zeros.
    ///
    /// ```
    /// let ids = trommel_model::Tokenizer::new().encode("A photo of a CAT");
    /// assert_eq!(ids[..7], [49406, 320, 1125, 539, 320, 2368, 49407]);
    /// assert!(ids[7..].iter().all(|&id| id == 0));
    /// ```
    #[must_use]
    pub fn encode(&self, caption: &str) -> [i32; CONTEXT_LENGTH] {
        let mut ids = [0; CONTEXT_LENGTH];
        for (id, token) in ids.iter_mut().zip(self.encode_to(caption, CONTEXT_LENGTH)) {
            *id = token;
        }
        ids
    }

    /// i32\[context_length\], for models that read another length (at least 2).
    #[must_use]
    pub fn encode_to(&self, caption: &str, context_length: usize) -> Vec<i32> {
        let room = context_length.saturating_sub(1);
        let text = clean(caption);
        let mut tokens = vec![self.inner.start_of_text()];
        for word in self.words.find_iter(&text) {
            if tokens.len() >= room {
                break;
            }
            let word = word.as_str();
            self.inner.encode(&word[..word.floor_char_boundary(MAX_WORD_BYTES)], &mut tokens);
        }
        tokens.truncate(room);
        tokens.push(self.inner.end_of_text());
        let mut ids: Vec<i32> = tokens.into_iter().map(|token| i32::from(token.to_u16())).collect();
        ids.resize(context_length, 0);
        ids
    }
}

/// Its ids for a text tower of some context.
#[derive(Debug)]
pub(crate) struct Padded {
    tokenizer: Tokenizer,
    context_length: usize,
}

impl Padded {
    pub(crate) fn new(tokenizer: Tokenizer, context_length: i64) -> Self {
        Self { tokenizer, context_length: usize::try_from(context_length).unwrap_or(CONTEXT_LENGTH) }
    }
}

impl Captions for Padded {
    fn ids(&self, caption: &str) -> Vec<i64> {
        self.tokenizer.encode_to(caption, self.context_length).into_iter().map(i64::from).collect()
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokenizer")
    }
}
