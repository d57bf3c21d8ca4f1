//! A benchmark: the test points that pruning looks at, checked once so that the join need not.

use std::fmt;
use std::ops::Deref;

use half::f16;
use thiserror::Error;
use trommel_kernels::canonical::UNIT_TOLERANCE;
use trommel_kernels::dot::norm;

use trommel_core::names::is_name;
use trommel_core::sample::Identity;

/// Why a benchmark cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum BenchmarkError {
    /// The name is no word.
    #[error("benchmark name {0:?}: letters, digits, `_`, `.`, `-` only, and at least one")]
    Name(String),
    /// There are no test points in it.
    #[error("benchmark {0}: no test points")]
    Empty(String),
    /// Counts that do not fit each other.
    #[error("benchmark {name}: {what} {found}, expected {expected}")]
    Shape {
        /// Name of the benchmark.
        name: String,
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A row that is no unit vector.
    #[error("benchmark {name}: test point {point} ({key}) {what}")]
    Row {
        /// Name of the benchmark.
        name: String,
        /// Index of the test point.
        point: usize,
        /// Key of the test point.
        key: String,
        /// `is not finite`, `is all zeros` or its norm.
        what: String,
    },
    /// A radius that is no cosine.
    #[error("benchmark {name}: radius {radius} of test point {point} ({key}) is not between -2 and 2")]
    Radius {
        /// Name of the benchmark.
        name: String,
        /// Index of the test point.
        point: usize,
        /// Key of the test point.
        key: String,
        /// The radius that was given, a cosine if it were right.
        radius: f64,
    },
}

/// Test points with their radii: canonical vectors of one dimension.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Benchmark {
    /// Its name: the `B` of `max_similarity.B` and `@B`.
    pub name: String,
    /// Elements a vector.
    pub dim: usize,
    /// Canonical vectors: f16\[points, dim\].
    pub vectors: Vec<f16>,
    /// One key a point.
    pub keys: Vec<String>,
    /// One label a point, where there are any.
    pub labels: Vec<Option<String>>,
    /// One radius a point (a cosine); `None` before `trommel radii`.
    pub radii: Option<Vec<f64>>,
    /// What embedded it; `None` in files that carry none.
    pub identity: Option<Identity>,
}

impl Benchmark {
    /// Checks and takes the parts. Empty `keys` become the points' numbers, empty `labels` become `None`s.
    ///
    /// # Errors
    /// See [`BenchmarkError`]. Rows are unit vectors within [`UNIT_TOLERANCE`]: who reads files normalises, and says so.
    pub fn new(
        name: impl Into<String>,
        dim: usize,
        vectors: Vec<f16>,
        mut keys: Vec<String>,
        mut labels: Vec<Option<String>>,
        radii: Option<Vec<f64>>,
        identity: Option<Identity>,
    ) -> Result<Self, BenchmarkError> {
        let name = name.into();
        if !is_name(&name) {
            return Err(BenchmarkError::Name(name));
        }
        if dim == 0 || vectors.is_empty() {
            return Err(BenchmarkError::Empty(name));
        }
        let points = vectors.len() / dim;
        if points * dim != vectors.len() {
            let (found, expected) = (vectors.len(), points * dim);
            return Err(BenchmarkError::Shape { name, what: "vector elements", found, expected });
        }
        if u32::try_from(points).is_err() {
            return Err(BenchmarkError::Shape {
                name,
                what: "test points",
                found: points,
                expected: u32::MAX as usize,
            });
        }
        if keys.is_empty() {
            keys = (0..points).map(|point| point.to_string()).collect();
        }
        if labels.is_empty() {
            labels = vec![None; points];
        }
        let counts =
            [("keys", keys.len()), ("labels", labels.len()), ("radii", radii.as_ref().map_or(points, Vec::len))];
        for (what, found) in counts {
            if found != points {
                return Err(BenchmarkError::Shape { name, what, found, expected: points });
            }
        }
        for (point, &radius) in radii.iter().flatten().enumerate() {
            if !(-2.0..=2.0).contains(&radius) {
                return Err(BenchmarkError::Radius { name, point, key: keys[point].clone(), radius });
            }
        }
        for (point, row) in vectors.chunks_exact(dim).enumerate() {
            let what = match norm(row) {
                length if !length.is_finite() => "is not finite".to_owned(),
                0.0 => "is all zeros".to_owned(),
                length if (length - 1.0).abs() > UNIT_TOLERANCE => format!("has the norm {length}, expected 1"),
                _ => continue,
            };
            return Err(BenchmarkError::Row { name, point, key: keys[point].clone(), what });
        }
        Ok(Self { name, dim, vectors, keys, labels, radii, identity })
    }

    /// Number of test points.
    #[must_use]
    pub fn points(&self) -> usize {
        self.vectors.len() / self.dim
    }

    /// Bytes that it holds, keys and labels as long as they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // Texts have an allocation each.
        let keys: usize = self.keys.iter().map(|key| size_of::<String>() + 16 + key.capacity()).sum();
        let label = |label: &Option<String>| label.as_ref().map_or(0, |label| 16 + label.capacity());
        let labels: usize = self.labels.iter().map(|it| size_of::<Option<String>>() + label(it)).sum();
        // Radii are held a second time as f32.
        let radii = self.radii.as_ref().map_or(0, |radii| radii.len() * 12);
        (self.vectors.len() * size_of::<f16>() + keys + labels + radii) as u64
    }

    /// The vector of one test point.
    #[must_use]
    pub fn vector(&self, point: usize) -> &[f16] {
        &self.vectors[point * self.dim..(point + 1) * self.dim]
    }

    /// The same test points with these radii.
    ///
    /// # Errors
    /// If their number is not that of the points, or one is no cosine.
    pub fn with_radii(self, radii: Vec<f64>) -> Result<Self, BenchmarkError> {
        Self::new(self.name, self.dim, self.vectors, self.keys, self.labels, Some(radii), self.identity)
    }
}

/// Whoever has a benchmark: alone, shared or borrowed.
pub trait Held: Deref<Target = Benchmark> + fmt::Debug + Send + Sync {}

impl<B: Deref<Target = Benchmark> + fmt::Debug + Send + Sync> Held for B {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Vec<f16> {
        values.iter().map(|&x| f16::from_f32(x)).collect()
    }

    fn make(vectors: Vec<f16>, radii: Option<Vec<f64>>) -> Result<Benchmark, BenchmarkError> {
        Benchmark::new("b", 2, vectors, vec![], vec![], radii, None)
    }

    #[test]
    fn refuses_with_the_place() {
        let text = |result: Result<Benchmark, BenchmarkError>| result.unwrap_err().to_string();
        assert_eq!(text(make(row(&[1.0, 0.0, 0.0, -0.0]), None)), "benchmark b: test point 1 (1) is all zeros");
        assert_eq!(text(make(row(&[f32::NAN, 0.0]), None)), "benchmark b: test point 0 (0) is not finite");
        assert_eq!(text(make(row(&[f32::INFINITY, 0.0]), None)), "benchmark b: test point 0 (0) is not finite");
        assert_eq!(
            text(make(row(&[0.0, 0.9995, 3.0, 4.0]), None)),
            "benchmark b: test point 1 (1) has the norm 5, expected 1"
        );
        assert_eq!(text(make(row(&[1.0, 0.0, 0.0]), None)), "benchmark b: vector elements 3, expected 2");
        assert_eq!(text(make(vec![], None)), "benchmark b: no test points");
        assert_eq!(text(make(row(&[1.0, 0.0]), Some(vec![]))), "benchmark b: radii 0, expected 1");
        let radius = text(make(row(&[1.0, 0.0]), Some(vec![f64::NAN])));
        assert_eq!(radius, "benchmark b: radius NaN of test point 0 (0) is not between -2 and 2");
        for name in ["", "a,b", "a@b", "a b"] {
            let made = Benchmark::new(name, 1, row(&[1.0]), vec![], vec![], None, None);
            assert_eq!(made.unwrap_err(), BenchmarkError::Name(name.into()));
        }
    }
}
