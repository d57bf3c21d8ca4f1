//! `--memory`: one number bounds the process; what is fixed is subtracted, the rest is credit.
//!
//! A card's memory is another budget: what computes there is planned there, beside the process's own.

use std::fmt;
use std::fs;
use std::path::Path;

use trommel_core::control_group::memory_limit_bytes;
use trommel_core::text;

use crate::error::PipelineError;

/// Code, libraries, allocator slack and the stacks of all threads.
const BASE_BYTES: u64 = 192 << 20;
/// libtorch's libraries and its own pools, where it is used.
const TORCH_BYTES: u64 = 256 << 20;

/// CUDA's libraries and the driver's own memory in a process that uses a card; what is pinned there is planned by whoever pins it.
const CUDA_HOST_BYTES: u64 = 2 << 30;
/// What a process takes on a card before its first tensor: context, kernels, workspaces.
const CUDA_CARD_BYTES: u64 = 1 << 30;

/// What one of `processes` processes of a run that compute on a card may plan with of its `total_bytes`: its share, or what others have left
/// free where that is less. The context by which a process sees what is free takes some itself, and is planned.
#[must_use]
pub fn card_share(total_bytes: u64, processes: usize, free_bytes: Option<u64>) -> u64 {
    let share = total_bytes / processes.max(1) as u64;
    free_bytes.map_or(share, |free| share.min(free.saturating_add(CUDA_CARD_BYTES)))
}

/// A card's memory, and what is planned to lie there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// `cuda:0`, or another device's name.
    pub name: String,
    /// What the process may have of it.
    pub total_bytes: u64,
    /// What is planned to lie there, with its bytes.
    pub fixed: Vec<(String, u64)>,
}

impl Card {
    fn needed_bytes(&self) -> u64 {
        self.fixed.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.fixed.iter().map(|(name, bytes)| format!("{name} {}", text::bytes(*bytes))).collect();
        f.write_str(&parts.join(", "))
    }
}

/// What the budget is made of, in bytes.
#[derive(Clone, Debug, Default)]
pub struct MemoryPlan {
    /// The whole budget.
    pub budget_bytes: u64,
    /// Named parts that are taken before the credit.
    pub fixed: Vec<(String, u64)>,
    /// Smallest credit that keeps every reader busy.
    pub least_credit_bytes: u64,
    /// Where models lie and compute, if not in the process's memory.
    pub card: Option<Card>,
}

impl MemoryPlan {
    /// A plan for `budget`; `torch` says whether libtorch will be used.
    #[must_use]
    pub fn new(budget_bytes: u64, torch: bool) -> Self {
        let mut plan = Self { budget_bytes, ..Self::default() };
        plan.take("program", BASE_BYTES);
        if torch {
            plan.take("libtorch", TORCH_BYTES);
        }
        plan
    }

    /// The same with models on a card of which the process may have `total_bytes`.
    #[must_use]
    pub fn on_card(mut self, name: &str, total_bytes: u64) -> Self {
        self.take("CUDA", CUDA_HOST_BYTES);
        self.card = Some(Card { name: name.into(), total_bytes, fixed: vec![("CUDA".into(), CUDA_CARD_BYTES)] });
        self
    }

    /// What is left of a card's memory, if models compute on one.
    #[must_use]
    pub fn card_left_bytes(&self) -> Option<u64> {
        self.card.as_ref().map(|card| card.total_bytes.saturating_sub(card.needed_bytes()))
    }

    /// Sets `bytes` aside under `name` where models compute.
    pub fn take_device(&mut self, name: &str, bytes: u64) {
        match &mut self.card {
            Some(card) if bytes > 0 => card.fixed.push((name.into(), bytes)),
            Some(_) => {}
            None => self.take(name, bytes),
        }
    }

    /// Sets `bytes` aside under `name`.
    pub fn take(&mut self, name: &str, bytes: u64) {
        if bytes > 0 {
            self.fixed.push((name.into(), bytes));
        }
    }

    /// Least budget that this plan works with.
    #[must_use]
    pub fn minimum_bytes(&self) -> u64 {
        self.fixed.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.least_credit_bytes
    }

    /// What the budget has beyond that.
    #[must_use]
    pub fn spare_bytes(&self) -> u64 {
        self.budget_bytes.saturating_sub(self.minimum_bytes())
    }

    /// What the budget lacks of that.
    #[must_use]
    pub fn lacking_bytes(&self) -> u64 {
        self.minimum_bytes().saturating_sub(self.budget_bytes)
    }

    /// What is left for samples in flight; refused when it is too little.
    ///
    /// # Errors
    /// When the budget is below [`Self::minimum_bytes`], or the card's memory below what is planned there: one line that names
    /// the minimum and its parts.
    pub fn credit_bytes(&self) -> Result<u64, PipelineError> {
        if let Some(card) = self.card.as_ref().filter(|card| card.needed_bytes() > card.total_bytes) {
            return Err(PipelineError::usage(format!(
                "{} has {} for this process, this run needs at least {} of it ({card}); a smaller --embed-batch, a smaller --batch or a larger --accum-freq needs less",
                card.name,
                text::bytes(card.total_bytes),
                bytes_up(card.needed_bytes())
            )));
        }
        let minimum = self.minimum_bytes();
        if self.budget_bytes < minimum {
            return Err(PipelineError::usage(format!(
                "--memory {} is too little for this run, it needs at least {} ({self})",
                text::bytes(self.budget_bytes),
                bytes_up(minimum)
            )));
        }
        Ok(self.budget_bytes - (minimum - self.least_credit_bytes))
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, bytes) in &self.fixed {
            write!(f, "{name} {}, ", text::bytes(*bytes))?;
        }
        let taken: u64 = self.fixed.iter().map(|(_, bytes)| bytes).sum();
        let credit = self.budget_bytes.saturating_sub(taken).max(self.least_credit_bytes);
        write!(f, "samples in flight {}", text::bytes(credit))
    }
}

/// Half of what the process's control group, or else the machine, has.
#[must_use]
pub fn default_budget_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        })
        .map_or(8 << 30, |kib| kib << 10);
    half(machine, memory_limit_bytes(Path::new("/")))
}

fn half(machine: u64, group: Option<u64>) -> u64 {
    group.map_or(machine, |group| group.min(machine)) / 2
}

/// The bytes that `--memory` says; without it [`default_budget_bytes`].
///
/// # Errors
/// When the text is no size.
pub fn budget_bytes(memory: Option<&str>) -> Result<u64, PipelineError> {
    memory.map_or_else(|| Ok(default_budget_bytes()), parse_bytes)
}

/// `512MiB`, `8GiB`, `8G`, `1000000`: bytes, powers of 1024 (`MB`, `GB`: powers of 1000).
///
/// # Errors
/// When the text is no size.
pub fn parse_bytes(text: &str) -> Result<u64, PipelineError> {
    let bad = || PipelineError::usage(format!("`{text}` is no size; write it like 8GiB, 512MiB or 1000000"));
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "p" | "pib" => 1 << 50,
        "e" | "eib" => 1 << 60,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(bad()),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let bytes = (number * factor as f64) as u64;
    Ok(bytes)
}

/// [`text::bytes`], but never less than `bytes`: who asks for that much gets enough.
fn bytes_up(bytes: u64) -> String {
    // The unit is written with one digit behind the point.
    let unit = 1u64 << (bytes.max(1).ilog2() / 10 * 10);
    let mut up = bytes;
    while parse_bytes(&text::bytes(up)).is_ok_and(|said| said < bytes) {
        up += unit.div_ceil(20);
    }
    text::bytes(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("8GiB").ok(), Some(8 << 30));
        assert_eq!(parse_bytes("1.5k").ok(), Some(1536));
        assert_eq!(parse_bytes("2GB").ok(), Some(2_000_000_000));
        assert!(parse_bytes("many").is_err());
        assert!(parse_bytes("3 apples").is_err());
    }

    #[test]
    fn the_default_is_half_of_the_group_or_the_machine() {
        assert_eq!([half(64, None), half(64, Some(16)), half(64, Some(999))], [32, 8, 32]);
        let (machine, budget) = (half(u64::MAX, None), default_budget_bytes());
        assert!(budget > 0 && budget < machine);
    }

    #[test]
    fn a_minimum_is_enough_as_it_is_written() {
        assert_eq!((bytes_up(256 << 20), bytes_up(41 << 30)), ("256.0 MiB".into(), "41.0 GiB".into()));
        let sizes = (1..64u64).map(|at| at * at * at * 104_729_731 / 17 + at);
        let round = (0..64).flat_map(|power| [1u64 << power, (1 << power) + 1, u64::MAX >> power]);
        for bytes in sizes.chain(round) {
            let said = parse_bytes(&bytes_up(bytes)).expect("a size");
            assert!(said >= bytes && said - bytes <= bytes / 9, "{bytes}: {said}");
        }
    }

    #[test]
    fn what_computes_on_a_card_is_planned_there() {
        let plan = |total_bytes| {
            let mut plan = MemoryPlan::new(8 << 30, true).on_card("cuda:0", total_bytes);
            plan.take_device("activations", 40 << 30);
            plan.take("batches", 1 << 30);
            plan
        };
        assert_eq!(plan(80 << 30).credit_bytes().ok(), Some((5 << 30) - (448 << 20)));
        let refusal = plan(24 << 30).credit_bytes().expect_err("too little").to_string();
        assert!(
            refusal.contains("cuda:0 has 24.0 GiB for this process, this run needs at least 41.0 GiB"),
            "{refusal}"
        );
        let mut here = MemoryPlan::new(8 << 30, true);
        here.take_device("activations", 40 << 30);
        assert!(here.credit_bytes().expect_err("too little").to_string().contains("--memory 8.0 GiB"));
    }

    #[test]
    fn processes_on_a_card_share_what_is_free_of_it() {
        let gib = |bytes: u64| bytes << 30;
        assert_eq!(card_share(gib(80), 1, None), gib(80));
        assert_eq!(card_share(gib(80), 1, Some(gib(80) - (600 << 20))), gib(80), "its own context is planned");
        assert_eq!(card_share(gib(80), 4, Some(gib(79))), gib(20));
        assert_eq!(card_share(gib(80), 4, Some(gib(22))), gib(20), "the others of the run have theirs");
        assert_eq!(card_share(gib(80), 1, Some(gib(30))), gib(31));
        assert_eq!(card_share(gib(80), 0, Some(0)), gib(1));
    }

    #[test]
    fn a_budget_below_the_minimum_is_refused_with_the_minimum() {
        let mut plan = MemoryPlan::new(100 << 20, false);
        plan.least_credit_bytes = 64 << 20;
        let refusal = plan.credit_bytes().expect_err("too little").to_string();
        assert!(refusal.contains("at least 256.0 MiB"), "{refusal}");
        plan.budget_bytes = 300 << 20;
        assert_eq!(plan.credit_bytes().ok(), Some(108 << 20));
    }
}
