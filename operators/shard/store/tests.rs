//! What every store promises, asked of each; and what a failing one gives.
#![allow(clippy::unwrap_used)]

use super::faulty::{Fault, Faulty};
use super::memory::Memory;
use super::*;
use trommel_core::causes::Causes;

fn text(store: &dyn Store, url: &str, byte: u64) -> String {
    let mut text = String::new();
    store.open(url).unwrap().open_at(byte).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn opens_at_a_byte_and_reads_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, b"0123456789").unwrap();
    let stores = Stores::default();
    for url in [path.display().to_string(), format!("file:{}", path.display()), format!("file://{}", path.display())] {
        assert_eq!(stores.open(&url).unwrap().announced_bytes(), Some(10));
        assert_eq!(text(&stores, &url, 7), "789", "{url}");
    }
    assert!(stores.open(&folder.path().display().to_string()).is_err());
    let missing = stores.open("no/such.tar").err().unwrap();
    assert!(missing.is_nothing() && Causes(&missing).to_string().starts_with("no/such.tar: "), "{missing}");
    let unknown = stores.open("s3://key:secret@pool/0.tar?token=secret").err().unwrap().to_string();
    assert!(unknown.starts_with("s3://pool/0.tar: s3: is not supported"), "{unknown}");
}

/// The same files in both stores are the same to whoever asks.
#[test]
fn all_stores_say_the_same_of_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["a/0.tar", "a/1.tar", "a/deep/0.tar", "b.txt"];
    let memory = Memory::default();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, file).unwrap();
        memory.put(format!("mem://pool/{file}"), file);
    }
    let stores = Stores::default().with("mem", memory.clone());
    let roots = [folder.path().display().to_string(), "mem://pool".into(), "mem://pool/".into()];
    let said = roots.map(|root| {
        let root = root.trim_end_matches('/').to_owned();
        let list = |folder: &str| {
            let mut list: Vec<_> = stores.list(folder).unwrap().into_iter().map(|it| (it.name, it.kind)).collect();
            list.sort_by(|a, b| a.0.cmp(&b.0));
            list
        };
        let look = |name: &str| {
            let seen = stores.look(&format!("{root}{name}"))?;
            Ok::<_, StoreError>((seen.kind, seen.bytes))
        };
        (
            list(&root),
            list(&format!("{root}/a/")),
            files.map(|file| text(&stores, &format!("{root}/{file}"), 1)),
            look("/a/1.tar").unwrap(),
            look("/a").unwrap().0,
            look("/none").unwrap_err().is_nothing(),
        )
    });
    assert_eq!(
        said[0].1,
        [("0.tar", EntryKind::File), ("1.tar", EntryKind::File), ("deep", EntryKind::Folder)]
            .map(|(n, k)| (n.to_owned(), k))
    );
    assert_eq!((said[0].3, said[0].4, said[0].5), ((EntryKind::File, Some(7)), EntryKind::Folder, true));
    assert!(said[0] == said[1] && said[1] == said[2], "{said:?}");
    // Another content is another stamp, in its place or not.
    for (root, put) in [(&roots_of(&folder), true), (&"mem://pool".to_owned(), false)] {
        let url = format!("{root}/a/0.tar");
        let before = stores.look(&url).unwrap();
        assert_eq!(stores.look(&url).unwrap(), before);
        std::thread::sleep(Duration::from_millis(20)); // the file system's clock ticks
        if put {
            std::fs::write(&url, "A/0.TAR").unwrap()
        } else {
            memory.put(&url, "A/0.TAR")
        }
        assert_ne!(stores.look(&url).unwrap().stamp, before.stamp, "{url}");
    }
}

fn roots_of(folder: &tempfile::TempDir) -> String {
    folder.path().display().to_string()
}

#[test]
fn a_local_file_that_changed_is_not_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("x").display().to_string();
    std::fs::write(&url, b"0123456789").unwrap();
    let source = Stores::default().open(&url).unwrap();
    std::fs::write(folder.path().join("y"), b"9876543210").unwrap();
    std::fs::rename(folder.path().join("y"), &url).unwrap();
    let error = source.open_at(5).err().unwrap();
    let said = trommel_core::causes::Causes(&error).to_string();
    assert!(!error.may_pass() && said.ends_with("has changed since it was opened"), "{said}");
}

/// What is read of `0123456789` through a store with these faults: the bytes, and why no more.
fn through(faults: impl IntoIterator<Item = Fault>) -> (String, Option<String>) {
    let store = Faulty::new(Memory::of([("x", "0123456789")]), faults);
    let (mut reader, meter) = match Metered::open(&store, "x") {
        Ok(opened) => opened,
        Err(error) => return (String::new(), Some(Causes(&error).to_string())),
    };
    let mut read = Vec::new();
    let ended = reader.read_to_end(&mut read);
    assert_eq!((meter.bytes(), ended.is_err()), (read.len() as u64, meter.failure().is_some()));
    (String::from_utf8(read).unwrap(), meter.failure())
}

#[test]
fn what_breaks_off_goes_on_from_the_byte_that_was_reached() {
    use Fault::{Announces, EndsAt, EndsOnceAt, FailsAt, FailsOnceAt, NoOpening, ShortReads, Slow};
    let whole: [&[Fault]; 7] = [
        &[],
        &[FailsOnceAt(0)],
        &[FailsOnceAt(3), FailsOnceAt(7), EndsOnceAt(9)],
        &[EndsOnceAt(0), EndsOnceAt(1), EndsOnceAt(2), EndsOnceAt(3), EndsOnceAt(4), EndsOnceAt(5), ShortReads(1)],
        &[ShortReads(3), FailsOnceAt(4)],
        &[Slow(Duration::from_millis(1)), EndsOnceAt(5)],
        // As often as there is a byte between.
        &[FailsOnceAt(1), FailsOnceAt(2), FailsOnceAt(3), FailsOnceAt(4), FailsOnceAt(5), FailsOnceAt(6)],
    ];
    for faults in whole {
        assert_eq!(through(faults.to_vec()), ("0123456789".into(), None), "{faults:?}");
    }
    let cut: [(&[Fault], &str, &str); 5] = [
        (&[FailsAt(4)], "0123", "the disk is on fire"),
        (&[EndsAt(4), ShortReads(1)], "0123", "ended after 4 of 10 bytes"),
        (&[Announces(3)], "0123456789", "ended after 10 of 13 bytes"),
        (&[Announces(-3), ShortReads(2)], "012345", "more bytes came than the 7 announced"),
        (&[NoOpening], "", "x: 503 Slow Down"),
    ];
    for (faults, read, why) in cut {
        assert_eq!(through(faults.to_vec()), (read.into(), Some(why.into())), "{faults:?}");
    }
}

#[test]
fn what_is_not_announced_ends_where_it_ends() {
    let (mut reader, meter) = Metered::new(Box::new(&b"abc"[..]), Some(5));
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    assert_eq!(meter.bytes(), 3);
    assert_eq!(meter.failure().unwrap(), "ended after 3 of 5 bytes");
    let (mut reader, meter) = Metered::new(Box::new(&b"abc"[..]), None);
    reader.read_to_end(&mut Vec::new()).unwrap();
    assert!(meter.failure().is_none());
}

/// A store fails, and its patience ends: so often it was asked, and no more.
#[test]
fn patience_ends() {
    let store = Faulty::new(Memory::of([("x", "0123456789")]), [Fault::NoOpening]);
    assert!(Metered::open(&store, "x").is_err());
    assert_eq!(store.calls().opens, 1 + 3);
    store.heal();
    assert!(Metered::open(&store, "x").is_ok());
    let missing = Metered::open(&store, "y").err().unwrap();
    assert!(missing.is_nothing() && store.calls().opens == 1 + 3 + 2, "what is not there is not waited for");
}

/// A disk that is gone: the first shard is waited for, thousands behind it are not, and what comes back is waited for again.
#[test]
fn whoever_waits_behind_one_that_has_waited_in_vain_waits_no_more() {
    let faulty = Faulty::new(Memory::of([("x", "0123456789"), ("y", "0123456789")]), [Fault::NoOpening]);
    let stores = Stores::default().with_local(faulty.clone());
    assert!(Metered::open(&stores, "x").is_err() && Metered::open(&stores, "y").is_err());
    assert_eq!(faulty.calls().opens, (1 + 3) + 1);
    faulty.heal();
    let (mut reader, _) = Metered::open(&stores, "x").unwrap();
    reader.read_to_end(&mut Vec::new()).unwrap();
    let opens = faulty.calls().opens;
    faulty.add("", Fault::NoOpening);
    assert!(Metered::open(&stores, "y").is_err());
    assert_eq!(faulty.calls().opens, opens + 1 + 3);
}
