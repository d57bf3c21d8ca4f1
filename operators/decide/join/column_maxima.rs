//! What the test points see of one shard's rows: the largest similarity of all of them, and of those that are kept.

use std::ops::Range;

use trommel_kernels::dot::dot;

use super::{JoinRow, Joiner};
use crate::kernel::{KernelError, Products};
use crate::maxima;
use crate::points::{Columns, Peak};
use crate::scan::Bounds;
use trommel_core::peak::offer;

impl Joiner {
    /// Shows the column maxima of one shard's rows to its points; may be done again. Gives the canonical products computed.
    pub(super) fn show(
        &self,
        products: &mut dyn Products,
        group: Range<usize>,
        rows: &[&JoinRow<'_>],
        kept: &[bool],
        bounds: &[Vec<Bounds>],
    ) -> Result<u64, KernelError> {
        let Some(points) = rows[group.start].points else { return Ok(0) };
        let all: Vec<usize> = group.clone().collect();
        let (kept_rows, dropped): (Vec<usize>, Vec<usize>) = all.iter().copied().partition(|&row| kept[row]);
        let pool_tops = products.column_tops(&all)?;
        let bound = |at: usize| bounds[at][group.clone()].iter().map(|bounds| bounds.value).fold(0.0, f64::max);
        // Others raise the maxima meanwhile; what is not above these is none of theirs.
        let maxima_of = |it: &Columns| Columns { pool: it.pool.clone(), kept: it.kept.clone(), hits: Vec::new() };
        let mut seen: Vec<Columns> = points.columns().iter().map(maxima_of).collect();
        // `tops` may be lower than the largest values of these rows; the tops of all rows are never lower.
        let floors_of = |floors: &mut [Vec<f32>], tops: &[Vec<f32>], seen: &[Columns], of: fn(&Columns) -> &[Peak]| {
            for (at, floors) in floors.iter_mut().enumerate() {
                let (now, bound) = (of(&seen[at]), bound(at));
                floors.resize(now.len(), f32::INFINITY);
                for (((floor, &low), &high), now) in floors.iter_mut().zip(&tops[at]).zip(&pool_tops[at]).zip(now) {
                    *floor = floor.min(maxima::floor(low..=high, bound, now.0));
                }
            }
        };
        // Where values are coarse, those that have the tops of columns are looked at first: with their canonical values less reaches.
        let coarse = bounds.iter().any(|bounds| bounds[group.start].are_coarse());
        let firsts_of = |tops: &[Vec<f32>], seen: &[Columns], of: fn(&Columns) -> &[Peak]| {
            let first = |at: usize| -> Vec<f32> {
                let bound = bound(at);
                tops[at].iter().zip(of(&seen[at])).map(|(&top, now)| maxima::first(top, bound, now.0)).collect()
            };
            let firsts: Vec<Vec<f32>> = if coarse { (0..tops.len()).map(first).collect() } else { Vec::new() };
            firsts.iter().flatten().any(|first| *first < f32::INFINITY).then_some(firsts)
        };
        let mut touched: Vec<Vec<bool>> = seen.iter().map(|columns| vec![false; columns.pool.len()]).collect();
        let mut confirmed = 0;
        let mut confirm = |seen: &mut [Columns], at: usize, row: usize, point: usize| {
            let (t, x, index) = (self.benchmarks[at].vector(point), rows[row].vector, rows[row].id.index);
            let Columns { pool, kept: of_kept, .. } = &mut seen[at];
            let least = if kept[row] { of_kept[point].0 } else { pool[point].0 };
            if bounds[at][row].near(x, t).1 < least {
                return;
            }
            let s = dot(x, t);
            confirmed += 1;
            touched[at][point] = true;
            offer(&mut pool[point], (s, index));
            if kept[row] {
                offer(&mut of_kept[point], (s, index));
            }
        };
        let mut look = |products: &mut dyn Products, rows: &[usize], floors: &[Vec<f32>], seen: &mut [Columns]| {
            let vector = |at: usize, point| self.benchmarks[at].vector(point);
            maxima::reaching(products, rows, floors, vector, |at, row, point| confirm(seen, at, row, point))
        };
        if let Some(firsts) = firsts_of(&pool_tops, &seen, |columns| &columns.pool) {
            look(products, &all, &firsts, &mut seen)?;
        }
        // Of dropped rows only the pool's maximum is asked.
        let mut floors = vec![Vec::new(); self.benchmarks.len()];
        floors_of(&mut floors, &pool_tops, &seen, |columns| &columns.pool);
        if !dropped.is_empty() {
            look(products, &dropped, &floors, &mut seen)?;
        }
        if !kept_rows.is_empty() {
            let some = if dropped.is_empty() { None } else { Some(products.low_column_tops(&kept_rows)?) };
            let tops = some.as_ref().unwrap_or(&pool_tops);
            if let Some(firsts) = firsts_of(tops, &seen, |columns| &columns.kept) {
                look(products, &kept_rows, &firsts, &mut seen)?;
            }
            // What reaches neither maximum is passed over.
            floors_of(&mut floors, tops, &seen, |columns| &columns.kept);
            look(products, &kept_rows, &floors, &mut seen)?;
        }
        let mut all = points.columns();
        for ((all, mine), touched) in all.iter_mut().zip(&seen).zip(&touched) {
            for (point, _) in touched.iter().enumerate().filter(|(_, touched)| **touched) {
                offer(&mut all.pool[point], mine.pool[point]);
                offer(&mut all.kept[point], mine.kept[point]);
            }
        }
        Ok(confirmed)
    }
}
