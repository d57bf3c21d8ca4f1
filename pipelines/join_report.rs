//! What a run's join did.

use serde::Serialize;
use trommel_decide::join::{JoinCounts, Joiner};

/// What a run's join did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JoinReport {
    /// Who multiplied.
    pub on: String,
    /// Rows, pairs and exact products, as the join counts them.
    #[serde(flatten)]
    pub counts: JoinCounts,
}

impl JoinReport {
    /// Of a joiner, so far.
    #[must_use]
    pub fn of(joiner: &Joiner) -> Self {
        Self { on: joiner.on(), counts: joiner.counts() }
    }

    /// For people: where, and how many products a sample were confirmed. Nothing where nothing was joined.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let JoinCounts { rows, rows_in_place, pairs, confirmed } = self.counts;
        #[expect(clippy::cast_precision_loss)]
        let each = |count: u64| count as f64 / rows as f64;
        let in_place = match rows_in_place {
            0 => String::new(),
            count => format!("; {count} samples on the processor, for the device had failed"),
        };
        (rows > 0).then(|| {
            format!(
                "join on {}: {:.1} of {:.0} products a sample computed exactly{in_place}",
                self.on,
                each(confirmed),
                each(pairs)
            )
        })
    }
}
