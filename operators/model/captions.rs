//! Captions without their padding: what a causal text tower that is read at the end token has to compute.
//!
//! ```text
//!  i64[n, context]       lengths, sorted        a few groups of equal padded length      i64[tokens], one behind the other
//!  a b E 0 0 0 0 0       3                      [c E 0] [a b E]                          c E 0 a b E d e f g h E
//!  d e f g h E 0 0   ─▶  2                 ─▶   [d e f g h E]                       ─▶
//!  c E 0 0 0 0 0 0       6
//! ```
//!
//! A causal tower's output at a token depends on the tokens before it alone, so what stands behind a caption's end token
//! reaches neither its feature nor any gradient. Products and norms go over all tokens at once; attention goes group by
//! group, each of one length. Features and gradients are those of the padded batch up to the order of sums.
//!
//! Invariants:
//! 1. The grouping is a function of the tokens alone: integers, no time, no threads.
//! 2. `ends[i]` is the place of row `i`'s end token in the packed order, so nothing has to be put back in order.

use tch::{Device, TchError, Tensor};

/// What one more group costs, in tokens: its attention is kernels of its own in every block.
const GROUP_TOKENS: usize = 64;
/// The same as a share of the batch's tokens.
const GROUP_SHARE: usize = 128;

/// Where the tokens of a batch go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Ids, then positions, of all tokens, then the ends: one piece, so that it travels to a device in one go.
    numbers: Vec<i64>,
    tokens: usize,
    rows: usize,
    /// Rows and padded length of each group.
    groups: Vec<(i64, i64)>,
}

impl Packing {
    /// Packs rows of `context` ids each. A row ends at the first place of its largest id, as `argmax` finds it.
    #[must_use]
    pub fn of(rows: &[i64], context: usize) -> Self {
        let mut by_length: Vec<Vec<usize>> = vec![Vec::new(); context + 1];
        let mut sum = 0;
        for (row, ids) in rows.chunks_exact(context.max(1)).enumerate() {
            let length = 1 + ids.iter().enumerate().fold(0, |best, (at, id)| if *id > ids[best] { at } else { best });
            by_length[length].push(row);
            sum += length;
        }
        let groups = grouped(&by_length, GROUP_TOKENS + sum / GROUP_SHARE);
        let count = rows.len() / context.max(1);
        let tokens = groups.iter().map(|(length, rows)| length * rows.len()).sum();
        let (mut ids, mut positions, mut ends) = (Vec::with_capacity(2 * tokens + count), Vec::new(), vec![0; count]);
        positions.reserve(tokens);
        for (length, members) in &groups {
            for (own, row) in members {
                ends[*row] = (ids.len() + own - 1) as i64;
                ids.extend_from_slice(&rows[row * context..row * context + length]);
                positions.extend(0..*length as i64);
            }
        }
        let groups = groups.iter().map(|(length, rows)| (rows.len() as i64, *length as i64)).collect();
        ids.extend(positions);
        ids.extend(ends);
        Self { numbers: ids, tokens, rows: count, groups }
    }

    /// Tokens that the tower computes.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// All numbers as they travel, for [`Packing::placed`].
    #[must_use]
    pub fn numbers(&self) -> &[i64] {
        &self.numbers
    }

    /// The captions over `numbers`, i64\[2 tokens + rows\], which lie on the tower's device.
    ///
    /// # Errors
    /// Numbers of another packing.
    pub fn placed(&self, numbers: &Tensor) -> Result<PackedCaptions, TchError> {
        let (tokens, rows) = (self.tokens as i64, self.rows as i64);
        Ok(PackedCaptions {
            ids: numbers.f_narrow(0, 0, tokens)?,
            positions: numbers.f_narrow(0, tokens, tokens)?,
            ends: numbers.f_narrow(0, 2 * tokens, rows)?,
            groups: self.groups.clone(),
        })
    }

    /// Copies the numbers to a device.
    ///
    /// # Errors
    /// No memory there.
    pub fn on(&self, device: Device) -> Result<PackedCaptions, TchError> {
        self.placed(&Tensor::f_from_slice(&self.numbers)?.f_to(device)?)
    }
}

/// Groups of rows, each with its padded length and its rows with their own lengths, so that the padding in them and `cost` tokens
/// a group are the fewest.
fn grouped(by_length: &[Vec<usize>], cost: usize) -> Vec<(usize, Vec<(usize, usize)>)> {
    let lengths: Vec<usize> = (0..by_length.len()).filter(|&length| !by_length[length].is_empty()).collect();
    // The fewest tokens for the first `upto` lengths, and where their last group begins.
    let mut fewest = vec![(0, 0)];
    for upto in 1..=lengths.len() {
        let (mut rows, mut best) = (0, (usize::MAX, 0));
        for from in (0..upto).rev() {
            rows += by_length[lengths[from]].len();
            let tokens = fewest[from].0 + rows * lengths[upto - 1] + cost;
            if tokens < best.0 {
                best = (tokens, from);
            }
        }
        fewest.push(best);
    }
    let (mut groups, mut upto) = (Vec::new(), lengths.len());
    while upto > 0 {
        let from = fewest[upto].1;
        let of = |&length: &usize| by_length[length].iter().map(move |&row| (length, row));
        groups.push((lengths[upto - 1], lengths[from..upto].iter().flat_map(of).collect()));
        upto = from;
    }
    groups.reverse();
    groups
}

/// Packed captions on a tower's device.
#[derive(Debug)]
pub struct PackedCaptions {
    /// i64\[tokens\]: the vocabulary's ids.
    pub(crate) ids: Tensor,
    /// i64\[tokens\], from 0 in every row.
    pub(crate) positions: Tensor,
    /// i64\[rows\]: each row's end token among the tokens.
    pub(crate) ends: Tensor,
    /// Rows and padded length of each group.
    pub(crate) groups: Vec<(i64, i64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize, context: usize) -> Vec<i64> {
        let mut row: Vec<i64> = (1..length as i64).chain([99]).collect();
        row.resize(context, 0);
        row
    }

    #[test]
    fn every_token_up_to_the_end_is_there_once() {
        let lengths = [3, 77, 2, 9, 3, 40, 1, 9, 9, 76, 8];
        let rows: Vec<i64> = lengths.iter().flat_map(|&length| row(length, 77)).collect();
        let packing = Packing::of(&rows, 77);
        let (ids, rest) = packing.numbers().split_at(packing.tokens());
        let (positions, ends) = rest.split_at(packing.tokens());
        for (own, (&end, &length)) in ends.iter().zip(&lengths).enumerate() {
            let end = end as usize;
            assert_eq!(ids[end + 1 - length..=end], rows[own * 77..own * 77 + length]);
            assert_eq!(positions[end + 1 - length..=end], (0..length as i64).collect::<Vec<_>>()[..]);
        }
        let sums = packing.groups.iter().map(|(rows, length)| rows * length).sum::<i64>();
        assert_eq!(sums, packing.tokens() as i64);
        assert!(packing.groups.len() > 1 && packing.tokens() < 400, "{:?}", packing.groups);
    }

    /// Against all ways to cut the sorted lengths.
    #[test]
    fn no_other_grouping_has_fewer_tokens() {
        for salt in 0..40usize {
            let lengths: Vec<usize> = (0..9).map(|i| 1 + (salt * 31 + i * i * 17) % 23).collect();
            let mut by_length = vec![Vec::new(); 24];
            lengths.iter().enumerate().for_each(|(row, &length)| by_length[length].push(row));
            let mut distinct = lengths.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let tokens = |cuts: u32| {
                let (mut total, mut rows) = (0, 0);
                for (at, length) in distinct.iter().enumerate() {
                    rows += by_length[*length].len();
                    if at + 1 == distinct.len() || cuts >> at & 1 == 1 {
                        total += rows * length + 7;
                        rows = 0;
                    }
                }
                total
            };
            let best = (0..1u32 << (distinct.len() - 1)).map(tokens).min();
            let got: usize = grouped(&by_length, 7).iter().map(|(length, rows)| length * rows.len() + 7).sum();
            assert_eq!(Some(got), best, "{lengths:?}");
        }
    }

    #[test]
    fn a_row_ends_at_the_first_of_its_largest_ids() {
        let packing = Packing::of(&[5, 9, 9, 1, 7, 7, 7, 7], 4);
        assert_eq!(packing.groups, [(2, 2)]);
        assert_eq!(packing.numbers(), [7, 7, 5, 9, 0, 1, 0, 1, 3, 0]);
    }
}
