//! What the room's tests share: small tars, shards in memory, and a reader run to its end.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use super::plan::{Plan, ShardRef};
use super::reader::{Admitted, Decisions, KnownError, ReaderConfig, Request, ShardReader, ViewBytes};
use super::store::Store;
use super::store::memory::Memory;
use trommel_core::credit::Permit;
use trommel_core::credit::workspace::Workspace;
use trommel_core::sample::{Encoded, Sample, ShardEnd, ShardOutcome, Status};

/// A tar of regular members, end mark included.
pub fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in members {
        append(&mut builder, name, data);
    }
    builder.into_inner().unwrap()
}

/// Appends a regular member, name as it is.
pub fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(data.len() as u64);
    header.set_mode(0o444);
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

/// Shards in memory: URLs are positions.
pub fn memory(shards: impl IntoIterator<Item = Vec<u8>>) -> Memory {
    Memory::of(shards.into_iter().enumerate().map(|(at, bytes)| (at.to_string(), bytes)))
}

/// A ledger of one shard.
pub struct Judged(pub Vec<Status>);

impl Decisions for Judged {
    fn shard(&self, _: u64) -> Result<Option<Arc<Vec<Status>>>, KnownError> {
        Ok(Some(Arc::new(self.0.clone())))
    }
}

/// A reader of the shards in a store of [`memory`].
pub fn reader(store: impl Store + 'static, config: ReaderConfig, decisions: Option<Arc<dyn Decisions>>) -> ShardReader {
    let shard =
        |at: usize| ShardRef { ordinal: at as u64, name: format!("{at}.tar"), url: at.to_string(), bytes: None };
    let plan = Plan { shards: (0..store.list("").unwrap().len()).map(shard).collect(), ..Plan::default() };
    let views = ViewBytes { eval: 1000, train: 500, ..ViewBytes::default() };
    ShardReader::new(store, Arc::new(plan), config, views, decisions)
}

/// Judges shard 0 from its start.
pub const JUDGE: Request = Request { pass: 0, ordinal: 0, train_from: 0, replay: false };

/// All that a reader sends for a request, and the credit it asked for.
pub fn sent(reader: &ShardReader, request: &Request) -> (Vec<Admitted>, Vec<u64>) {
    let (asked, mut items) = (Mutex::new(Vec::new()), Vec::new());
    let mut admit = |bytes| -> Result<Permit, Infallible> {
        asked.lock().unwrap().push(bytes);
        Ok(Permit::free())
    };
    let Ok(()) = reader.read_shard(request, Workspace::unbounded(), &mut admit, &mut |item| {
        items.push(item);
        Ok(())
    });
    (items, asked.into_inner().unwrap())
}

/// One group as the tests compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    pub offset: u64,
    pub size: u64,
    /// Extension and bytes of the picture, or the reject's code.
    pub image: Result<(String, Vec<u8>), String>,
    pub caption: Option<String>,
}

/// Reads one tar and checks what holds for every shard: raw indices in order, one end, last, with the right count.
pub fn read(bytes: Vec<u8>, config: &ReaderConfig) -> (Vec<Row>, ShardEnd) {
    let reader = reader(memory([bytes]), config.clone(), None);
    rows(sent(&reader, &JUDGE).0)
}

/// The rows and the end among what was sent for a judged shard.
pub fn rows(mut items: Vec<Admitted>) -> (Vec<Row>, ShardEnd) {
    use trommel_core::sample::Event;
    let Some(Admitted::Event(Event::End(end))) = items.pop() else { panic!("the end comes last") };
    let rows = items.into_iter().enumerate().map(|(at, item)| {
        let (info, image, caption) = match item {
            Admitted::Sample(Sample { info, caption, payload: Encoded { image, extension }, .. }) => {
                (info, Ok((extension, image.to_vec())), caption.map(|text| text.to_string()))
            }
            Admitted::Event(Event::Fate(fate)) => {
                assert_eq!(fate.status, Status::Rejected);
                (fate.info.clone(), Err(fate.reason.clone().unwrap().code), None)
            }
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!((info.id.ordinal, info.id.index as usize), (0, at));
        Row { key: info.key.clone(), offset: info.offset, size: info.size, image, caption }
    });
    let rows: Vec<Row> = rows.collect();
    assert_eq!(rows.len(), end.count as usize);
    (rows, end)
}

/// The remark on a shard that was read to its end.
pub fn remark(end: &ShardEnd) -> Option<&str> {
    match &end.outcome {
        ShardOutcome::Complete(remark) => remark.as_deref(),
        ShardOutcome::Rejected(reason) => Some(reason.detail.as_str()),
        ShardOutcome::Unavailable(why) | ShardOutcome::Changed(why) => panic!("unavailable: {why}"),
    }
}
