//! Captions to token ids, as open_clip's `SimpleTokenizer` does it.
//!
//! ftfy, HTML unescaped twice, white space folded, lower case; byte-pair encoding with CLIP's 49,408 entries; start, tokens,
//! end; cut to the context, the end token kept. The vocabulary comes with the crate `instant-clip-tokenizer` (MIT, as is
//! OpenAI's).

use std::fmt;

use instant_clip_tokenizer as clip;

use super::clean::clean;

/// Ids of a caption: every CLIP reads 77.
pub const CONTEXT_LENGTH: usize = 77;

/// CLIP's byte-pair encoder. Making one takes tens of milliseconds; share it.
pub struct Tokenizer {
    inner: clip::Tokenizer,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tokenizer {
    /// With CLIP's vocabulary.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: clip::Tokenizer::new() }
    }

    /// i32\[77\]: start, tokens, end, zeros.
    #[must_use]
    pub fn encode(&self, caption: &str) -> [i32; CONTEXT_LENGTH] {
        let mut tokens = vec![self.inner.start_of_text()];
        self.inner.encode(&clean(caption), &mut tokens);
        tokens.truncate(CONTEXT_LENGTH - 1);
        tokens.push(self.inner.end_of_text());
        let mut ids = [0; CONTEXT_LENGTH];
        for (id, token) in ids.iter_mut().zip(tokens) {
            *id = i32::from(token.to_u16());
        }
        ids
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokenizer")
    }
}
