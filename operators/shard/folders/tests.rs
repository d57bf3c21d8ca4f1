//! What is found, in which order, and what is said of the rest.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;

use super::super::reader::{Admitted, Decisions, Request, ViewBytes};
use super::super::testing::{JUDGE, Judged, read, rows, tar_of};
use super::*;
use trommel_core::credit::Permit;
use trommel_core::sample::{ShardOutcome, Status};

fn put(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
}

fn find(root: &Path) -> Result<Folders, FolderError> {
    Folders::find(root, &GroupConfig::default())
}

/// Pictures of all classes, below `root`, and all notices.
fn all(root: &Path, found: &Folders) -> (Vec<String>, Notices) {
    let (mut files, mut notices) = (Vec::new(), found.notices.clone());
    for class in 0..found.plan.len() {
        let (pictures, more) = found.pictures_of(class).unwrap();
        files.extend(pictures.iter().map(|it| it.path.strip_prefix(root).unwrap().display().to_string()));
        notices.merge(&more);
    }
    (files, notices)
}

#[test]
fn what_is_passed_over_is_counted_with_its_first_place() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["cat/images/1.JPEG", "cat/boxes.txt", "cat/a.avif", "dog/2.Ppm", "dog/._2.ppm", "readme.md"]);
    put(root, &[".ipynb_checkpoints/x.jpg", "empty/notes.txt"]);
    let found = find(root).unwrap();
    let (files, notices) = all(root, &found);
    assert_eq!(files, ["cat/images/1.JPEG", "dog/2.Ppm"]);
    assert_eq!((found.pictures, found.captioned), (2, 0));
    let counts: Vec<_> = notices.iter().map(|(code, notice)| (code, notice.count)).collect();
    assert_eq!(counts, [("empty_class", 1), ("hidden", 2), ("no_picture", 4)]);
    assert_eq!(notices.get("empty_class").unwrap().first, "empty");
    assert!(notices.get("hidden").unwrap().first.ends_with(".ipynb_checkpoints"));
    assert!(!notices.any_loss());
}

#[test]
fn a_text_beside_a_picture_is_no_stranger() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["00000/1.jpg", "00000/1.txt", "00000/1.json", "00000/2.jpg", "00000/3.png", "00000/3.json"]);
    put(root, &["00000/9.txt", "00000_stats.json"]);
    let found = find(root).unwrap();
    assert_eq!((found.pictures, found.captioned), (3, 2));
    let (_, notices) = all(root, &found);
    assert_eq!(notices.get("no_picture").unwrap().count, 2);
}

#[test]
fn loops_end_and_dangling_links_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["cat/1.jpg", "elsewhere.d/2.jpg"]);
    symlink(root.join("cat"), root.join("cat/again")).unwrap();
    symlink(root.join("elsewhere.d/2.jpg"), root.join("cat/linked.jpg")).unwrap();
    symlink("nowhere", root.join("cat/gone.jpg")).unwrap();
    let (files, notices) = all(root, &find(root).unwrap());
    assert_eq!(files, ["cat/1.jpg", "cat/gone.jpg", "cat/linked.jpg", "elsewhere.d/2.jpg"]);
    assert_eq!(notices.get("folder_loop").unwrap().count, 1);
}

/// Two folders' names that differ in bytes that are no text would make one shard's, and two files' one key.
#[test]
fn names_that_are_no_text_are_refused_and_what_is_no_picture_may_have_them() {
    let odd = |name: &[u8]| OsString::from_vec(name.to_vec());
    let refused = |root: &Path, place: &str, pictures: u64| match find(root) {
        Err(error @ FolderError::NotUtf8 { pictures: found, .. }) => {
            let said = error.to_string();
            assert_eq!((said.strip_prefix(&*root.to_string_lossy()), found), (Some(place), pictures), "{said}");
        }
        other => panic!("{place}: {other:?}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for class in [&b"a\xff"[..], b"a\xfe"] {
        put(&at("classes").join(odd(class)), &["1.jpg", "2.jpg"]);
    }
    refused(&at("classes"), "/a\u{fffd}: the name is not UTF-8", 4);
    put(&at("pictures"), &["cat/1.jpg", "dog/more/2.jpg"]);
    let (good, bad) = (at("pictures/dog/more/2.jpg"), at("pictures/dog/more").join(odd(b"2\xff.jpg")));
    fs::rename(&good, &bad).unwrap();
    refused(&at("pictures"), "/dog/more/2\u{fffd}.jpg: the name is not UTF-8", 2);
    put(&at("flat"), &["1.jpg"]);
    fs::write(at("flat").join(odd(b"2\xff.jpg")), "2").unwrap();
    refused(&at("flat"), "/2\u{fffd}.jpg: the name is not UTF-8", 2);
    let called_so = folder.path().join(odd(b"root\xff"));
    put(&called_so, &["1.jpg"]);
    refused(&called_so, ": the name is not UTF-8", 1);
    // A picture that is called so since the folder was planned makes it unfinished.
    fs::rename(&bad, &good).unwrap();
    let planned = find(&at("pictures")).unwrap();
    fs::rename(&good, &bad).unwrap();
    assert!(matches!(planned.pictures_of(1), Err(PlanError::NotUtf8(path)) if path.ends_with("2\u{fffd}.jpg")));
    fs::rename(&bad, &good).unwrap();
    // What is neither class nor picture is passed over, whatever it is called.
    fs::write(at("pictures/cat").join(odd(b"notes\xff.md")), "x").unwrap();
    put(&at("pictures").join(odd(b"empty\xff")), &["notes.md"]);
    let (files, notices) = all(&at("pictures"), &find(&at("pictures")).unwrap());
    assert_eq!(files, ["cat/1.jpg", "dog/more/2.jpg"]);
    let counts: Vec<_> = notices.iter().map(|(code, notice)| (code, notice.count)).collect();
    assert_eq!(counts, [("empty_class", 1), ("no_picture", 2)]);
}

/// Two names for one folder are two classes, in the order of the names.
#[test]
fn a_class_folder_that_is_a_link_is_called_as_the_link_is() {
    let folder = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (folder.path().join("root"), folder.path().join("elsewhere"));
    put(&elsewhere, &["zebra/1.jpg"]);
    put(&root, &["b/1.jpg"]);
    symlink(elsewhere.join("zebra"), root.join("0")).unwrap();
    symlink(elsewhere.join("zebra"), root.join("c")).unwrap();
    let names: Vec<String> = find(&root).unwrap().plan.shards.iter().map(|shard| shard.name.clone()).collect();
    assert_eq!(names, ["0", "b", "c"]);
    assert_eq!(find(&elsewhere.join("zebra/../zebra")).unwrap().plan.shards[0].name, "zebra");
}

#[test]
fn pictures_beside_class_folders_are_refused_with_both_counts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["banner.png", "cat/1.jpg", "cat/2.jpg", "dog/3.jpg"]);
    let said = find(root).unwrap_err().to_string();
    assert!(said.contains("1 pictures lie beside 2 folders with 3 more (first: cat)"), "{said}");
    let none = root.join("none");
    put(&none, &["x/a.avif"]);
    let said = find(&none).unwrap_err().to_string();
    assert!(said.contains("neither pictures nor folders of pictures; ") && said.contains("x/a.avif"), "{said}");
}

#[test]
fn image_keys_that_are_asked_for_decide() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["cat/1.jpg", "cat/2.tif"]);
    let config = GroupConfig { image_keys: vec!["tif".into()], ..GroupConfig::default() };
    let found = Folders::find(folder.path(), &config).unwrap();
    assert_eq!(all(folder.path(), &found).0, ["cat/2.tif"]);
}

/// All that is sent for the first class.
fn sent(root: &Path, decisions: Option<Arc<dyn Decisions>>, request: &Request) -> Vec<Admitted> {
    let folders = Arc::new(find(root).unwrap());
    sent_of(&FolderReader::new(folders, ViewBytes::default(), decisions), request)
}

fn sent_of(reader: &FolderReader, request: &Request) -> Vec<Admitted> {
    let mut items = Vec::new();
    let mut admit = |_| Ok::<_, Infallible>(Permit::free());
    let Ok(()) = reader.read_class(request, &mut admit, &mut |item| {
        items.push(item);
        Ok(())
    });
    items
}

/// img2dataset's `--output_format files` holds what its `webdataset` holds: the same members give the same samples.
#[test]
fn files_are_read_as_their_tar_is() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat((1 << 20) + 1);
    let members: &[(&str, &str)] = &[
        ("000.jpg", "0"),
        ("000.json", "{\"caption\": \"of the json\", \"uid\": \"u0\", \"url\": \"http://x\", \"sha256\": \"ab\"}"),
        ("000.txt", "a caption\n"),
        ("001.png", "1"),
        ("001.json", "{\"caption\": \"of the json\"}"),
        ("002.webp", "2"),
        ("002.txt", "  \n"),
        ("003.jpg", "3"),
        ("004.jpg", "4"),
        ("004.txt", &long),
        ("005.jpg", "5"),
        ("005.json", "{broken"),
        ("005.txt", "über"),
    ];
    let class = folder.path().join("00000");
    fs::create_dir(&class).unwrap();
    for (name, data) in members {
        fs::write(class.join(name), data).unwrap();
    }
    let tar: Vec<(&str, &[u8])> = members.iter().map(|(name, data)| (*name, data.as_bytes())).collect();
    let (wanted, _) = read(tar_of(&tar), &Default::default());
    let (ours, end) = rows(sent(folder.path(), None, &JUDGE));
    assert_eq!((end.outcome, wanted.len()), (ShardOutcome::Complete(None), 6));
    for (ours, wanted) in ours.iter().zip(&wanted) {
        let stem = ours.key.strip_prefix("00000/").unwrap().split('.').next().unwrap();
        assert_eq!((stem, &ours.image, &ours.caption), (wanted.key.as_str(), &wanted.image, &wanted.caption));
    }
    let captions: Vec<Option<&str>> = ours.iter().map(|row| row.caption.as_deref()).collect();
    assert_eq!(captions, [Some("a caption\n"), Some("of the json"), None, None, None, Some("über")]);
    let items = sent(folder.path(), None, &JUDGE);
    let Some(Admitted::Sample(first)) = items.first() else { panic!("{items:?}") };
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    assert_eq!([of(&first.info.uid), of(&first.info.url), of(&first.info.sha256)], ["u0", "http://x", "ab"]);
    // Read once more, one by one: the same again. What was too long then is too long now.
    let again = |key: &str| PictureFiles::read(&folder.path().join(key), &GroupConfig::default());
    let mut judged = 0;
    for item in &items {
        let Admitted::Sample(sample) = item else { continue };
        let files = again(&sample.info.key).unwrap();
        assert_eq!((&*files.image, files.size), (&*sample.payload.image, sample.info.size));
        assert_eq!(files.caption.as_deref(), sample.caption.as_deref());
        assert_eq!(files.is_alone, sample.info.key == "00000/003.jpg");
        judged += 1;
    }
    assert_eq!(judged, 5);
    let said = again("00000/004.jpg").unwrap_err().to_string();
    assert!(said.contains("00000/004.jpg: txt has 1048577 bytes"), "{said}");
    // A caption that is there and leads nowhere is not none.
    symlink("nowhere", class.join("003.txt")).unwrap();
    assert!(again("00000/003.jpg").unwrap_err().to_string().contains("003.txt"));
}

/// What cannot be read is unfinished, never a reject: a file that is gone, and a folder that is not what was planned.
#[test]
fn what_cannot_be_read_is_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["cat/1.jpg", "cat/2.jpg"]);
    symlink("nowhere", root.join("cat/3.jpg")).unwrap();
    let (ours, end) = rows(sent(root, None, &JUDGE));
    assert_eq!(ours.len(), 2);
    assert!(matches!(&end.outcome, ShardOutcome::Unavailable(why) if why.contains("cat/3.jpg")), "{end:?}");
    fs::remove_file(root.join("cat/3.jpg")).unwrap();
    let planned = FolderReader::new(Arc::new(find(root).unwrap()), ViewBytes::default(), None);
    put(root, &["cat/4.jpg"]);
    let (ours, end) = rows(sent_of(&planned, &JUDGE));
    assert!(ours.is_empty());
    assert!(matches!(&end.outcome, ShardOutcome::Unavailable(why) if why.contains("had 18 when")), "{end:?}");
}

/// A pass that replays the ledger sends what was kept and a hole for each of the others, from the cursor on.
#[test]
fn decisions_are_replayed() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "cat/4.jpg"]);
    let judged = |statuses: &[Status]| Some(Arc::new(Judged(statuses.to_vec())) as Arc<dyn Decisions>);
    let request = Request { pass: 1, train_from: 1, replay: true, ..JUDGE };
    let four = [Status::Kept, Status::Kept, Status::Dropped, Status::Kept];
    let kinds: Vec<String> = sent(folder.path(), judged(&four), &request)
        .iter()
        .map(|item| match item {
            Admitted::Sample(sample) => format!("{:?} {}", sample.work, sample.info.key),
            other => format!("{other:?}").split(' ').next().unwrap().to_owned(),
        })
        .collect();
    assert_eq!(kinds, ["Replay cat/2.jpg", "Replayed(Holes", "Replay cat/4.jpg", "Replayed(End"]);
    let items = sent(folder.path(), judged(&four[..3]), &request);
    assert!(format!("{:?}", items.last().unwrap()).contains("Changed"), "{items:?}");
}
