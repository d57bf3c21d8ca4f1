//! The compiled half of the Python module `trommel`: what reads. What a user calls stands in `python/trommel/`, where it is documented.
#![forbid(missing_docs)]

mod folders;
mod program;
mod reading;
mod signals;
mod split;

use std::sync::LazyLock;

use pyo3::prelude::*;

use trommel_core::notices::Notices;
use trommel_shard::store::Stores;

use signals::Interruptible;

/// The stores of this process. All shards share them, so that only the first one waits for a disk that is gone.
static STORES: LazyLock<Stores> = LazyLock::new(|| Stores::default().with_local(Interruptible::default()));

/// A finding as Python gets it: code, text, count, first place, lost samples, whether it is a loss.
type Notice = (String, String, u64, String, u64, bool);

/// Findings as Python gets them, in order of code.
fn listed(notices: &Notices) -> Vec<Notice> {
    let notice = |(code, notice): (&str, &trommel_core::notices::Notice)| {
        let (text, first) = (notice.text.clone(), notice.first.clone());
        (code.to_owned(), text, notice.count, first, notice.lost_samples, notice.loss)
    };
    notices.iter().map(notice).collect()
}

#[pymodule]
mod _trommel {
    /// The version of the program.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::folders::{ledger, plan, plan_of_run};
    #[pymodule_export]
    use super::program::main;
    #[pymodule_export]
    use super::reading::Shard;
    #[pymodule_export]
    use super::split::Split;
}
