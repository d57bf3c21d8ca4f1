//! What a scan knows of a row: the most similar one so far, and whom it waits for.

/// The most similar row so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    pub by: u32,
    pub similarity: f64,
}

pub(crate) fn raise(best: &mut Option<Best>, by: u32, similarity: f64) {
    // Strictly: whoever came first stays.
    if best.is_none_or(|best| similarity > best.similarity) {
        *best = Some(Best { by, similarity });
    }
}

/// What is known of a row of the block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub best: Option<Best>,
    /// Rows of the same block above the threshold, of which it is not known yet whether they stay, as bits by their places in it: greedy only,
    /// and empty as long as there is none. Their similarities are taken once more, from those that do stay: of many copies each has all before
    /// it here, and one of them stays.
    open: Vec<u64>,
}

/// Bits of a word of [`Row::open`].
pub(crate) const WORD: usize = u64::BITS as usize;

impl Row {
    /// Notes the row at a place in the block, which has so many rows.
    pub fn note(&mut self, at: usize, rows: usize) {
        if self.open.is_empty() {
            self.open = vec![0; rows.div_ceil(WORD)];
        }
        self.open[at / WORD] |= 1 << (at % WORD);
    }

    /// The places that are noted, ascending.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        let bits = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            (0..WORD).filter(move |at| (bits >> at) & 1 == 1).map(move |at| word * WORD + at)
        };
        self.open.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(bits)
    }
}
