//! Products are within the bound, and what is said of chunks and columns is theirs.

use super::*;
use crate::canonical::round_to_f16;
use crate::dot::{dot, norm};

fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

fn units(count: usize, dim: usize, state: &mut u64) -> Vec<f16> {
    let mut all = Vec::new();
    for _ in 0..count {
        let raw: Vec<f64> = (0..dim).map(|_| noise(state)).collect();
        let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        all.extend(raw.iter().map(|x| round_to_f16(x / length)));
    }
    all
}

#[test]
fn within_the_bound_and_chunk_maxima_are_maxima() {
    let mut state = 3;
    let sizes = [(1, 1, 1), (3, 65, 7), (17, 200, 64), (5, 129, 513), (8, 64, 1024), (2, 1000, 33)];
    for (rows, points, dim) in sizes.into_iter().take(if cfg!(miri) { 2 } else { 6 }) {
        let (x, t) = (units(rows, dim, &mut state), units(points, dim, &mut state));
        let mut wide = vec![0.0; x.len()];
        to_f32(&x, &mut wide);
        let radii: Vec<f32> = (0..points).map(|_| noise(&mut state) as f32).collect();
        for (tile_bytes, threads) in [(1, 1), (64 * dim * 4 * 2, 1), (1 << 20, 1), (1, 3), (1 << 20, 2), (1 << 20, 64)]
        {
            let mut block = Block::default();
            block.fill(&wide, &t, dim, Some(&radii), Tiling { tile_bytes, threads });
            for row in 0..rows {
                let a = &x[row * dim..(row + 1) * dim];
                for point in 0..points {
                    let b = &t[point * dim..(point + 1) * dim];
                    let bound = error_bound(dim, norm(a), norm(b)).unwrap();
                    assert!((f64::from(block.row(row)[point]) - dot(a, b)).abs() <= bound);
                }
                for (chunk, values) in block.row(row).chunks(CHUNK).enumerate() {
                    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    assert_eq!(block.chunk_maxima(row)[chunk], largest);
                    let over = values.iter().zip(&radii[chunk * CHUNK..]).map(|(v, r)| v - r);
                    assert_eq!(block.chunk_excess(row)[chunk], over.fold(f32::NEG_INFINITY, f32::max));
                }
            }
            let mut columns = vec![f32::NEG_INFINITY; points];
            let (left, right) = columns.split_at_mut(points / 3);
            block.raise_columns(0..rows, 0, left);
            block.raise_columns(0..rows, points / 3, right);
            for (point, &column) in columns.iter().enumerate() {
                let largest = (0..rows).map(|row| block.row(row)[point]).fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(column, largest);
            }
        }
    }
}

#[test]
fn visits_all_that_reach_and_nothing_else() {
    let mut state = 17;
    for len in [0, 1, 15, 16, 17, 63, 64, 65, 200, 1000] {
        let values: Vec<f32> = (0..len).map(|_| noise(&mut state) as f32).collect();
        let least: Vec<f32> = values.iter().map(|v| if noise(&mut state) > 0.45 { *v } else { v.next_up() }).collect();
        let mut seen = Vec::new();
        visit_reaching(&values, &least, |at| seen.push(at));
        let expected: Vec<usize> = (0..len).filter(|&at| values[at] >= least[at]).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_block_can_be_used_again_for_another_size() {
    let mut state = 5;
    let mut block = Block::default();
    for (rows, points, dim) in [(9, 300, 12), (2, 70, 12), (11, 5, 40), (0, 5, 40)] {
        let (x, t) = (units(rows, dim, &mut state), units(points, dim, &mut state));
        let mut wide = vec![0.0; x.len()];
        to_f32(&x, &mut wide);
        block.fill(&wide, &t, dim, None, Tiling::default());
        assert_eq!((block.rows(), block.points()), (rows, points));
        for row in 0..rows {
            assert!(block.chunk_excess(row).is_empty());
            for point in 0..points {
                let exact = dot(&x[row * dim..(row + 1) * dim], &t[point * dim..(point + 1) * dim]);
                assert!((f64::from(block.row(row)[point]) - exact).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn rounding_down() {
    for x in [0.1, -0.1, 1.0, 0.3, -0.7, 1e-50, -1e-50] {
        assert!(f64::from(f32_below(x)) <= x && f64::from(f32_below(x).next_up()) > x);
    }
    assert!(error_bound((1 << 23) + 1, 1.0, 1.0).is_none());
    assert_eq!(error_bound(1, 1.0, 1.0), Some(0.0));
}
