//! The products of one portion, where they were computed.

use std::ops::Range;

use tch::{Device, Kind, TchError, Tensor};
use trommel_decide::kernel::{ColumnSink, KernelError, Portion, Products, Reach, RowSink, Tops};
use trommel_kernels::join::CHUNK;

use crate::points::{DevicePoints, Lane, said};

/// Values of a chunk.
const VALUES: i64 = CHUNK as i64;

/// f32\[rows, columns\], the benchmarks of which something is asked side by side.
pub(crate) struct Block<'a> {
    points: &'a DevicePoints,
    portion: Portion<'a>,
    /// Goes back when this is dropped.
    lane: Option<Lane>,
    values: Tensor,
    /// By benchmark, where something is asked.
    tables: Vec<Option<Table>>,
}

/// A benchmark's place in a block, and its chunks.
struct Table {
    /// Number of its first column in the block.
    place: i64,
    /// f32\[rows, chunks\]: largest values.
    maxima: Tensor,
    /// The same of values minus radii, where they are asked for.
    excess: Option<Tensor>,
}

/// Thresholds of a benchmark: f32\[rows\] each.
struct Least {
    value: Tensor,
    excess: Tensor,
    sure: Tensor,
}

impl<'a> Block<'a> {
    /// Multiplies on the lane's stream.
    pub fn multiply(points: &'a DevicePoints, lane: Lane, portion: Portion<'a>) -> Result<Self, KernelError> {
        let mut block = Self { points, portion, lane: Some(lane), values: Tensor::new(), tables: Vec::new() };
        let made = block.on_stream(|lane| block.fill(lane)).and_then(|made| made.map_err(said("products")));
        (block.values, block.tables) = made?;
        Ok(block)
    }

    fn on_stream<T>(&self, work: impl FnOnce(&Lane) -> T) -> Result<T, KernelError> {
        let lane = self.lane.as_ref().ok_or_else(|| KernelError("no lane".into()))?;
        let _on = lane.stream.enter().map_err(said("stream"))?;
        let _no_grad = tch::no_grad_guard();
        Ok(work(lane))
    }

    fn asked(&self) -> impl Iterator<Item = (usize, &Table)> {
        self.tables.iter().enumerate().filter_map(|(at, table)| Some((at, table.as_ref()?)))
    }

    fn rows(&self) -> i64 {
        self.portion.vectors.len() as i64
    }

    fn fill(&self, lane: &Lane) -> Result<(Tensor, Vec<Option<Table>>), TchError> {
        let all = self.points;
        let asked = || all.parts.iter().enumerate().filter(|(at, _)| self.portion.needs[*at].any());
        let width: i64 = asked().map(|(_, part)| part.columns()).sum();
        // Of one size however few the rows are: libtorch has kept the last block for it, where one that is larger than all before is the driver's to give.
        let most = self.rows().max(all.portion_rows() as i64);
        let values = Tensor::f_empty([most, width], (Kind::Float, all.device))?.f_narrow(0, 0, self.rows())?;
        let rows = all.rows(self.portion.vectors)?;
        let mut tables: Vec<Option<Table>> = all.parts.iter().map(|_| None).collect();
        let mut place = 0;
        for (at, part) in asked() {
            let products = values.f_narrow(1, place, part.columns())?;
            all.products(lane, &rows, at, &products)?;
            #[cfg(test)]
            if let Some(skew) = &all.skew {
                skew.apply(at, self.portion.vectors, &products);
            }
            let radii = lane.radii[at].as_ref().filter(|_| self.portion.needs[at].radii);
            let (mut maxima, mut excess) = (Vec::new(), Vec::new());
            // Some rows at a time, so that differences need no second block.
            let step = (all.limits.slab as i64 / part.columns()).max(1);
            for start in (0..self.rows()).step_by(step as usize) {
                let some = products.f_narrow(0, start, step.min(self.rows() - start))?;
                let chunks = some.f_reshape([-1, VALUES, part.chunks])?;
                maxima.push(chunks.f_amax([1i64], false)?);
                if let Some(radii) = radii {
                    excess.push(chunks.f_sub(radii)?.f_amax([1i64], false)?);
                }
            }
            let excess = radii.map(|_| Tensor::f_cat(&excess, 0)).transpose()?;
            tables[at] = Some(Table { place, maxima: Tensor::f_cat(&maxima, 0)?, excess });
            place += part.columns();
        }
        Ok((values, tables))
    }

    /// Values of some points of a benchmark: f32\[rows, points\].
    pub fn values(&self, at: usize, points: &[usize]) -> Result<Vec<f32>, KernelError> {
        let place = self.tables[at].as_ref().map_or(0, |table| table.place);
        let columns: Vec<i64> = points.iter().map(|&point| place + point as i64).collect();
        let read = || floats(&self.values.f_index_select(1, &self.indices(&columns)?)?);
        self.on_stream(|_| read())?.map_err(said("products"))
    }

    fn indices(&self, places: &[i64]) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(places)?.f_to_device(self.points.device)
    }

    fn thresholds(&self, reach: &[Reach]) -> Result<Least, TchError> {
        let column = |of: fn(&Reach) -> f32| -> Result<Tensor, TchError> {
            let values: Vec<f32> = reach.iter().map(of).collect();
            Tensor::f_from_slice(&values)?.f_to_device(self.points.device)
        };
        Ok(Least { value: column(|it| it.value)?, excess: column(|it| it.excess)?, sure: column(|it| it.sure)? })
    }

    /// What reaches of one benchmark, by some of the groups.
    fn reaching(
        &self,
        lane: &Lane,
        (at, table): (usize, &Table),
        least: &Least,
        groups: Range<usize>,
        sink: &mut dyn RowSink,
    ) -> Result<(), TchError> {
        let part = &self.points.parts[at];
        let (first, end) = (self.portion.groups[groups.start].start, self.portion.groups[groups.end - 1].end);
        let rows = |of: &Tensor| of.f_narrow(0, first as i64, (end - first) as i64);
        let (value, excess, sure) = (rows(&least.value)?, rows(&least.excess)?, rows(&least.sure)?);
        let mut look = rows(&table.maxima)?.f_ge_tensor(&value.f_unsqueeze(1)?)?;
        let radii = table.excess.as_ref().zip(lane.radii[at].as_ref());
        if let Some((over, _)) = radii {
            let least = excess.f_minimum(&sure.f_neg()?)?.f_unsqueeze(1)?;
            look = look.f_logical_or(&rows(over)?.f_ge_tensor(&least)?)?;
        }
        let candidates = places(&look)?;
        let lanes =
            Tensor::f_arange(VALUES, (Kind::Int64, self.points.device))?.f_mul_scalar(part.chunks)?.f_unsqueeze(1)?;
        let mut sums = radii.map(|(_, radii)| Sums::new(self, at, &groups, radii)).transpose()?;
        let count = candidates.size()[0];
        let step = (self.points.limits.slab as i64 / VALUES).max(1);
        for start in (0..count).step_by(step as usize) {
            let some = candidates.f_narrow(0, start, step.min(count - start))?;
            let row = some.f_floor_divide_scalar(part.chunks)?;
            let chunk = some.f_remainder(part.chunks)?;
            let first_value = (&row + first as i64).f_mul_scalar(self.values.size()[1])?.f_add(&chunk)? + table.place;
            let values = self.values.f_view([-1])?.f_take(&lanes.f_add(&first_value)?)?;
            // What is known of n chunks stands beside [64, n] of their values.
            let of = |least: &Tensor| least.f_index_select(0, &row);
            let mut listed = values.f_ge_tensor(&of(&value)?)?;
            if let (Some((_, radii)), Some(sums)) = (radii, &mut sums) {
                let m = values.f_sub(&radii.f_index_select(1, &chunk)?)?;
                let (excess, sure) = (of(&excess)?, of(&sure)?);
                let unsure = m.f_ge_tensor(&sure.f_neg()?)?.f_logical_and(&m.f_le_tensor(&sure)?)?;
                listed = listed.f_logical_or(&m.f_ge_tensor(&excess)?)?.f_logical_or(&unsure)?;
                sums.add(&row, &chunk, &m.f_gt_tensor(&sure)?.f_logical_and(&m.f_lt_tensor(&excess)?)?)?;
            }
            let found = places(&listed)?;
            if found.size()[0] == 0 {
                continue;
            }
            let count = some.size()[0];
            let (lane, which) = (found.f_floor_divide_scalar(count)?, found.f_remainder(count)?);
            let point = lane.f_mul_scalar(part.chunks)?.f_add(&chunk.f_index_select(0, &which)?)?;
            let codes = row.f_index_select(0, &which)?.f_mul_scalar(part.columns())?.f_add(&point)?;
            let values = floats(&values.f_view([-1])?.f_index_select(0, &found)?)?;
            let columns = part.columns() as usize;
            let listed = integers(&codes)?.into_iter().zip(values).map(|(code, v)| {
                let (row, point) = (code as usize / columns, code as usize % columns);
                (first + row, (point as u32, v))
            });
            let listed: Vec<(usize, (u32, f32))> =
                listed.filter(|(_, (point, _))| (*point as usize) < part.points).collect();
            for of_row in listed.chunk_by(|a, b| a.0 == b.0) {
                let points: Vec<(u32, f32)> = of_row.iter().map(|(_, point)| *point).collect();
                sink.listed(at, of_row[0].0, &points);
            }
        }
        sums.map_or(Ok(()), |sums| sums.show(self, at, first, groups, sink))
    }

    /// Some rows, ascending.
    fn some(&self, rows: &[usize]) -> Result<SomeRows, TchError> {
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        let between = self.values.f_narrow(0, first as i64, (last - first + 1) as i64)?;
        let places: Vec<i64> = rows.iter().map(|&row| (row - first) as i64).collect();
        let wanted = (rows.len() <= last - first).then(|| self.indices(&places)).transpose()?;
        Ok(SomeRows { between, wanted })
    }

    fn tops_of_columns(&self, rows: &[usize]) -> Result<Vec<f32>, TchError> {
        let width = self.values.size()[1];
        let step = (self.points.limits.slab as i64 / rows.len() as i64).max(1);
        let (some, mut tops) = (self.some(rows)?, Vec::new());
        for start in (0..width).step_by(step as usize) {
            let slab = some.of(|values| values.f_narrow(1, start, step.min(width - start)))?;
            tops.push(slab.f_amax([0i64], false)?);
        }
        floats(&Tensor::f_cat(&tops, 0)?)
    }

    /// Rows and places in `wanted` of what reaches: a column of the block and its floor each.
    fn reaching_columns(&self, rows: &[usize], wanted: &[(i64, f32)]) -> Result<Vec<(usize, usize)>, TchError> {
        let (columns, floors): (Vec<i64>, Vec<f32>) = wanted.iter().copied().unzip();
        let columns = self.indices(&columns)?;
        let values = self.some(rows)?.of(|values| values.f_index_select(1, &columns))?;
        let floors = Tensor::f_from_slice(&floors)?.f_to_device(self.points.device)?;
        let found = integers(&places(&values.f_ge_tensor(&floors)?)?)?;
        Ok(found.into_iter().map(|it| (rows[it as usize / wanted.len()], it as usize % wanted.len())).collect())
    }
}

impl Products for Block<'_> {
    fn row_tops(&mut self) -> Result<Vec<Vec<Tops>>, KernelError> {
        let read = || -> Result<Vec<f32>, TchError> {
            let mut tops = Vec::new();
            for (_, table) in self.asked() {
                let value = table.maxima.f_amax([1i64], false)?;
                tops.push(match &table.excess {
                    Some(excess) => excess.f_amax([1i64], false)?,
                    None => value.f_full_like(f64::NEG_INFINITY)?,
                });
                tops.push(value);
            }
            if tops.is_empty() { Ok(Vec::new()) } else { floats(&Tensor::f_cat(&tops, 0)?) }
        };
        let read = self.on_stream(|_| read())?.map_err(said("largest values"))?;
        let mut pairs = read.chunks_exact(2 * self.portion.vectors.len());
        let nothing = || vec![Tops::NOTHING; self.portion.vectors.len()];
        let of = |table: &Option<Table>| match (table, table.as_ref().and_then(|_| pairs.next())) {
            (Some(_), Some(pair)) => {
                let (excess, value) = pair.split_at(pair.len() / 2);
                excess.iter().zip(value).map(|(&excess, &value)| Tops { value, excess }).collect()
            }
            _ => nothing(),
        };
        Ok(self.tables.iter().map(of).collect())
    }

    fn rows_reaching(&mut self, reach: &[Vec<Reach>], sink: &mut dyn RowSink) -> Result<(), KernelError> {
        let mut read = |lane: &Lane| -> Result<(), TchError> {
            for (at, table) in self.asked() {
                let least = self.thresholds(&reach[at])?;
                let groups = self.portion.groups.len();
                let step = (self.points.limits.table_bytes / (4 * self.points.parts[at].columns() as usize)).max(1);
                for start in (0..groups).step_by(step) {
                    self.reaching(lane, (at, table), &least, start..groups.min(start + step), sink)?;
                }
            }
            Ok(())
        };
        self.on_stream(&mut read)?.map_err(said("what reaches"))
    }

    fn column_tops(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>, KernelError> {
        let tops = self.on_stream(|_| self.tops_of_columns(rows))?.map_err(said("largest values of columns"))?;
        let of = |(at, table): (usize, &Table)| {
            let place = table.place as usize;
            tops[place..place + self.points.parts[at].points].to_vec()
        };
        Ok(self.asked().map(of).collect())
    }

    fn columns_reaching(
        &mut self,
        rows: &[usize],
        floors: &[Vec<f32>],
        sink: &mut ColumnSink<'_>,
    ) -> Result<(), KernelError> {
        for (at, table) in self.asked() {
            let points = floors[at].iter().enumerate().filter(|(_, floor)| **floor < f32::INFINITY);
            let wanted: Vec<(i64, f32)> = points.map(|(point, &floor)| (table.place + point as i64, floor)).collect();
            for wanted in wanted.chunks((self.points.limits.slab / self.portion.vectors.len()).max(1)) {
                let found = self.on_stream(|_| self.reaching_columns(rows, wanted))?;
                let found = found.map_err(said("what reaches in columns"))?;
                for of_row in found.chunk_by(|a, b| a.0 == b.0) {
                    let point = |&(_, column): &(usize, usize)| (wanted[column].0 - table.place) as u32;
                    let points: Vec<u32> = of_row.iter().map(point).collect();
                    sink(at, of_row[0].0, &points);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // Before the lane: memory goes back to its stream.
        (self.values, self.tables) = (Tensor::new(), Vec::new());
        if let Some(lane) = self.lane.take() {
            self.points.give_back(lane);
        }
    }
}

/// Some rows of a block.
struct SomeRows {
    /// f32\[from the first to the last, columns\].
    between: Tensor,
    /// i64: which of these they are, where they are not all of them.
    wanted: Option<Tensor>,
}

impl SomeRows {
    /// Their values of some columns or all; what lies between them and is not wanted is left out at the end.
    fn of(&self, columns: impl Fn(&Tensor) -> Result<Tensor, TchError>) -> Result<Tensor, TchError> {
        let values = columns(&self.between)?;
        match &self.wanted {
            Some(wanted) => values.f_index_select(0, wanted),
            None => Ok(values),
        }
    }
}

/// Sure hits of a benchmark's points, by rows and by groups.
struct Sums {
    /// i64\[rows\], over all points.
    of_rows: Tensor,
    /// i32\[groups * chunks, 64\].
    of_points: Tensor,
    /// i64\[rows\]: the first chunk of the row's group in `of_points`.
    group_of_row: Tensor,
}

impl Sums {
    fn new(block: &Block<'_>, at: usize, groups: &Range<usize>, radii: &Tensor) -> Result<Self, TchError> {
        let chunks = block.points.parts[at].chunks;
        let mut of_row = Vec::new();
        for (place, group) in block.portion.groups[groups.clone()].iter().enumerate() {
            of_row.resize(of_row.len() + group.len(), place as i64 * chunks);
        }
        let device = radii.device();
        Ok(Self {
            of_rows: Tensor::f_zeros([of_row.len() as i64], (Kind::Int64, device))?,
            of_points: Tensor::f_zeros([groups.len() as i64 * chunks, VALUES], (Kind::Int, device))?,
            group_of_row: block.indices(&of_row)?,
        })
    }

    /// `hits` bool\[64, n\] of chunks `chunk` of rows `row`, i64\[n\] each.
    fn add(&mut self, row: &Tensor, chunk: &Tensor, hits: &Tensor) -> Result<(), TchError> {
        let _ = self.of_rows.f_index_add_(0, row, &hits.f_sum_dim_intlist(0i64, false, Kind::Int64)?)?;
        let place = self.group_of_row.f_index_select(0, row)?.f_add(chunk)?;
        let _ = self.of_points.f_index_add_(0, &place, &hits.f_transpose(0, 1)?.f_to_kind(Kind::Int)?)?;
        Ok(())
    }

    fn show(
        &self,
        block: &Block<'_>,
        at: usize,
        first: usize,
        groups: Range<usize>,
        sink: &mut dyn RowSink,
    ) -> Result<(), TchError> {
        let counts = integers(&self.of_rows)?;
        let chunks = block.points.parts[at].chunks;
        for (place, group) in groups.enumerate() {
            let rows = block.portion.groups[group].clone();
            let any = |row: &usize| counts[row - first] > 0;
            if !rows.clone().any(|row| any(&row)) {
                continue;
            }
            for row in rows.filter(any) {
                sink.counted(at, row, counts[row - first] as u32);
            }
            let Some(hits) = sink.hits(at, group) else { continue };
            let table = self.of_points.f_narrow(0, place as i64 * chunks, chunks)?;
            let table: Vec<i32> = on_host(&table.f_transpose(0, 1)?.f_contiguous()?)?.try_into()?;
            // What was filled up is never a hit.
            for (sum, count) in hits.iter_mut().zip(table) {
                *sum += count as u32;
            }
        }
        Ok(())
    }
}

/// Places of what is true, in the order of memory: i64\[n\].
fn places(mask: &Tensor) -> Result<Tensor, TchError> {
    mask.f_reshape([-1])?.f_nonzero()?.f_squeeze_dim(1)
}

fn on_host(tensor: &Tensor) -> Result<Tensor, TchError> {
    tensor.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    on_host(tensor)?.try_into()
}

fn integers(tensor: &Tensor) -> Result<Vec<i64>, TchError> {
    on_host(tensor)?.try_into()
}
