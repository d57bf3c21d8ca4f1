//! Rows of a part's tables, put together from their columns.

use std::path::Path;
use std::sync::Arc;

use trommel_columnar::parquet::Column;
use trommel_core::sample::{Fate, PointRow, Reason, SampleId, SampleInfo, Score, Status};

use super::LedgerRow;
use super::parts::bad_part;
use crate::LedgerError;

pub(super) fn status(path: &Path, word: Option<&str>) -> Result<Status, LedgerError> {
    match word {
        Some("kept") => Ok(Status::Kept),
        Some("dropped") => Ok(Status::Dropped),
        Some("rejected") => Ok(Status::Rejected),
        other => Err(bad_part(path, format!("a status `{}`", other.unwrap_or("null")))),
    }
}

/// Takes columns one after the other, each as its type.
pub(super) struct Columns<'a> {
    pub(super) path: &'a Path,
    pub(super) left: std::vec::IntoIter<Column>,
}

impl Columns<'_> {
    fn short(&self) -> LedgerError {
        bad_part(self.path, "columns of other types than were asked for".into())
    }

    pub(super) fn text(&mut self) -> Result<std::vec::IntoIter<Option<String>>, LedgerError> {
        if let Some(Column::Text(v)) = self.left.next() { Ok(v.into_iter()) } else { Err(self.short()) }
    }

    pub(super) fn u32(&mut self) -> Result<std::vec::IntoIter<Option<u32>>, LedgerError> {
        if let Some(Column::U32(v)) = self.left.next() { Ok(v.into_iter()) } else { Err(self.short()) }
    }

    fn u64(&mut self) -> Result<std::vec::IntoIter<Option<u64>>, LedgerError> {
        if let Some(Column::U64(v)) = self.left.next() { Ok(v.into_iter()) } else { Err(self.short()) }
    }

    fn f64(&mut self) -> Result<std::vec::IntoIter<Option<f64>>, LedgerError> {
        if let Some(Column::F64(v)) = self.left.next() { Ok(v.into_iter()) } else { Err(self.short()) }
    }
}

pub(super) fn ledger_rows(path: &Path, ordinal: u64, group: Vec<Column>) -> Vec<Result<LedgerRow, LedgerError>> {
    let rows = group.first().map_or(0, Column::len);
    let benchmarks = group.len().saturating_sub(11) / 5;
    let mut columns = Columns { path, left: group.into_iter() };
    let mut build = || -> Result<Vec<Result<LedgerRow, LedgerError>>, LedgerError> {
        let (mut shards, mut keys, mut uids) = (columns.text()?, columns.text()?, columns.text()?);
        let (mut urls, mut shas) = (columns.text()?, columns.text()?);
        let (mut indices, mut offsets, mut sizes) = (columns.u32()?, columns.u64()?, columns.u64()?);
        let (mut words, mut reasons, mut details) = (columns.text()?, columns.text()?, columns.text()?);
        let mut scores = Vec::new();
        for _ in 0..benchmarks {
            scores.push((columns.f64()?, columns.u32()?, columns.f64()?, columns.u32()?, columns.u32()?));
        }
        let mut out = Vec::with_capacity(rows);
        for _ in 0..rows {
            let status = status(path, words.next().flatten().as_deref())?;
            let scored: Vec<Score> = scores
                .iter_mut()
                .map(|(max, nearest, margin, exceeds, hits)| Score {
                    max_similarity: max.next().flatten(),
                    nearest: nearest.next().flatten(),
                    margin: margin.next().flatten(),
                    exceeds: exceeds.next().flatten(),
                    hits: hits.next().flatten(),
                })
                .collect();
            let detail = details.next().flatten().unwrap_or_default();
            let info = SampleInfo {
                id: SampleId { ordinal, index: indices.next().flatten().unwrap_or_default() },
                key: keys.next().flatten().unwrap_or_default(),
                uid: uids.next().flatten(),
                url: urls.next().flatten(),
                sha256: shas.next().flatten(),
                offset: offsets.next().flatten().unwrap_or_default(),
                size: sizes.next().flatten().unwrap_or_default(),
                ..SampleInfo::default()
            };
            let reason = reasons.next().flatten().map(|code| Reason { code, detail });
            let fate = Fate::recorded(Arc::new(info), status, reason, scored);
            out.push(Ok(LedgerRow { shard: shards.next().flatten().unwrap_or_default(), fate }));
        }
        Ok(out)
    };
    build().unwrap_or_else(|e| vec![Err(e)])
}

pub(super) fn item_rows(path: &Path, group: Vec<Column>, benchmarks: &[String]) -> Result<Vec<PointRow>, LedgerError> {
    let rows = group.first().map_or(0, Column::len);
    let mut columns = Columns { path, left: group.into_iter() };
    let (mut names, mut points, mut maxima) = (columns.text()?, columns.u32()?, columns.f64()?);
    let (mut ordinals, mut indices, mut hits) = (columns.u64()?, columns.u32()?, columns.u64()?);
    let (mut kept, mut kept_ordinals, mut kept_indices) = (columns.f64()?, columns.u64()?, columns.u32()?);
    let mut out = Vec::with_capacity(rows);
    for _ in 0..rows {
        let name = names.next().flatten().unwrap_or_default();
        let benchmark = benchmarks
            .iter()
            .position(|b| *b == name)
            .and_then(|b| u16::try_from(b).ok())
            .ok_or_else(|| bad_part(path, format!("items of a benchmark `{name}` that the ledger has not")))?;
        let max_similarity = maxima.next().flatten();
        let sample = ordinals.next().flatten().zip(indices.next().flatten());
        let kept_sample = kept_ordinals.next().flatten().zip(kept_indices.next().flatten());
        out.push(PointRow {
            benchmark,
            point: points.next().flatten().unwrap_or_default(),
            max_similarity,
            sample: sample.filter(|_| max_similarity.is_some()).map(|(ordinal, index)| SampleId { ordinal, index }),
            hits: hits.next().flatten().unwrap_or_default(),
            kept_max: kept.next().flatten(),
            kept_sample: kept_sample.map(|(ordinal, index)| SampleId { ordinal, index }),
        });
    }
    Ok(out)
}
