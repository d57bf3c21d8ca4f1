//! Small sets, made by hand.
#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;
use crate::testing::tar_of;
use trommel_core::causes::Causes;

#[test]
fn pictures_come_with_their_classes_and_what_has_none_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (root, test) = (folder.path(), folder.path().join("test"));
    assert!(Classified::find(root).unwrap().is_none());
    fs::create_dir(&test).unwrap();
    fs::write(test.join("nshards.txt"), "2\n").unwrap();
    fs::write(root.join("classnames.txt"), "a\nb \n").unwrap();
    let first: &[(&str, &[u8])] = &[("s0.cls", b"1"), ("s0.webp", b"w"), ("s1.cls", b"7"), ("s1.jpg", b"j")];
    fs::write(test.join("0.tar"), tar_of(first)).unwrap();
    let missing = Causes(&Classified::find(root).unwrap_err()).to_string();
    assert!(missing.contains("1.tar") && missing.contains("says that there are 2"), "{missing}");
    let second: &[(&str, &[u8])] = &[("s2.png", b"p"), ("s3.png", b"q"), ("s3.cls", b"x")];
    fs::write(test.join("1.tar"), tar_of(second)).unwrap();
    for given in [root, &test] {
        let set = Classified::find(given).unwrap().unwrap();
        assert_eq!(set.class_names, ["a", "b"]);
        let mut seen = Vec::new();
        for shard in 0..2 {
            let mut see = |it: Labelled| {
                seen.push((it.key, it.content.map_err(|error| error.to_string())));
                Ok::<_, ClassifiedError>(())
            };
            let notices = set.read(shard, &mut see).unwrap();
            assert!(notices.is_empty() && set.notices.is_empty(), "{notices:?} {:?}", set.notices);
        }
        let say = |text: &str| Err(text.to_owned());
        let due = [
            ("s0", Ok((b"w".to_vec(), 1))),
            ("s1", say("class 7, and there are 2 names")),
            ("s2", say("no .cls beside it")),
            ("s3", say("`x` is no class's number")),
        ];
        assert_eq!(seen, due.map(|(key, content)| (key.to_owned(), content)));
        let mut labels = Vec::new();
        set.labels(0, &mut |index, class| {
            labels.push((index, class));
            Ok::<_, ClassifiedError>(())
        })
        .unwrap();
        assert_eq!(labels[0], (0, Ok(1)));
    }
    // What is not read, and what did not come, is said.
    for name in ["2.tar", "01.tar", "2.tar.gz"] {
        fs::write(test.join(name), tar_of(second)).unwrap();
    }
    fs::write(test.join("1_stats.json"), r#"{"successes": 5}"#).unwrap();
    let set = Classified::find(root).unwrap().unwrap();
    let beside = uncounted(root);
    let of = beside.get("uncounted_shards").unwrap();
    assert!(of.count == 3 && of.first.ends_with("01.tar, and there are 2"), "{of:?}");
    let lost = set.read(1, &mut |_| Ok::<_, ClassifiedError>(())).unwrap();
    assert_eq!(lost.get("fewer_samples").map(|of| of.lost_samples), Some(3));
    fs::remove_file(test.join("0.tar")).unwrap();
    fs::write(test.join("0_stats.json"), r#"{"successes": 4}"#).unwrap();
    let set = Classified::of_tars(&test).unwrap().unwrap();
    assert_eq!((set.notices.lost_samples(), set.shards.len()), (4, 4), "{:?}", set.notices);
    fs::write(test.join("0.tar"), tar_of(first)).unwrap();
    fs::write(root.join("dataset_type.txt"), "retrieval\n").unwrap();
    assert!(Classified::find(root).unwrap_err().to_string().contains("a set of kind `retrieval`"));
    for given in [root, &test] {
        assert_eq!(captioned(given).unwrap().unwrap(), [test.join("0.tar"), test.join("1.tar")]);
        assert_eq!(Packed::find(given).unwrap().unwrap().shards(), [test.join("0.tar"), test.join("1.tar")]);
        assert_eq!(Packed::tars(given).unwrap().unwrap(), [test.join("0.tar"), test.join("1.tar")]);
    }
    fs::write(root.join("dataset_type.txt"), "multilabel\n").unwrap();
    assert!(captioned(root).unwrap_err().to_string().contains("`multilabel`; sets with captions are read"));
    assert!(Packed::find(root).unwrap_err().to_string().contains("`multilabel`; sets with one class a picture"));
    assert!(Packed::tars(root).unwrap_err().to_string().contains("`multilabel`; sets with one class a picture"));
    fs::write(root.join("dataset_type.txt"), "retrieval\n").unwrap();
    fs::remove_file(test.join("1.tar")).unwrap();
    assert!(Causes(&Packed::find(root).unwrap_err()).to_string().contains("1.tar: is not there"));
}

/// A number of tars is what somebody has written into a file: none of it is believed before the tars are seen.
#[test]
fn a_number_of_tars_that_cannot_be_reserves_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("0.tar"), tar_of(&[("s0.cls", b"1"), ("s0.jpg", b"j")])).unwrap();
    let said = |count: &str| {
        fs::write(root.join("nshards.txt"), count).unwrap();
        let errors =
            [Classified::find(root).unwrap_err(), Packed::tars(root).unwrap_err(), captioned(root).unwrap_err()];
        let [first, second, third] = errors.each_ref().map(|error| Causes(error).to_string());
        assert!(first == second && second == third, "{first}; {second}; {third}");
        let is_usage = matches!(errors[0], ClassifiedError::Malformed { .. });
        (first.strip_prefix(&*root.to_string_lossy()).unwrap().to_owned(), is_usage)
    };
    let usage = |what: &str| (format!("/nshards.txt: {what}"), true);
    assert_eq!(said("10000001"), usage("10000001 tars: more than 10000000 shards"));
    assert_eq!(said("400000000000"), usage("400000000000 tars: more than 10000000 shards"));
    assert_eq!(said("18446744073709551615\n"), usage("18446744073709551615 tars: more than 10000000 shards"));
    assert_eq!(said("18446744073709551616"), usage("`18446744073709551616` is no number of tars"));
    assert_eq!(said("-1"), usage("`-1` is no number of tars"));
    let missing = "/1.tar: is not there, and nshards.txt says that there are 10000000";
    assert_eq!(said("10000000"), (missing.to_owned(), false));
    fs::write(root.join("nshards.txt"), "1").unwrap();
    assert_eq!(Packed::tars(root).unwrap().unwrap(), [root.join("0.tar")]);
}

/// A blank line among the names would be a class without a name, and without it all names behind it would be those of other classes.
#[test]
fn a_class_without_a_name_is_refused_by_its_line_unless_others_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let (root, test) = (folder.path(), folder.path().join("test"));
    fs::create_dir(&test).unwrap();
    fs::write(test.join("nshards.txt"), "1").unwrap();
    fs::write(test.join("0.tar"), tar_of(&[("s0.cls", b"1"), ("s0.jpg", b"j")])).unwrap();
    for (content, line) in [("a\n\nb\n", 2), ("\na\n", 1), ("a\n \t\r\nb", 2)] {
        fs::write(root.join("classnames.txt"), content).unwrap();
        // It says nothing of its kind, and is no set of captioned pictures for that.
        for error in [Classified::find(root).unwrap_err(), Packed::find(root).unwrap_err()] {
            let said = Causes(&error).to_string();
            assert!(said.contains(&format!("classnames.txt:{line}: a blank line")), "{content:?}: {said}");
        }
        // Whoever reads no classes does not mind.
        assert_eq!(Packed::tars(root).unwrap().unwrap(), [test.join("0.tar")]);
        let given = ["x".to_owned(), "y".to_owned()];
        let set = Classified::find_called(root, &given).unwrap().unwrap();
        let of = set.notices.get("own_class_names").unwrap();
        assert!(set.class_names == given && of.first.ends_with("classnames.txt"), "{of:?}");
    }
    fs::write(root.join("classnames.txt"), b"a\nb\xe9\n").unwrap();
    let error = Classified::find(root).unwrap_err();
    assert!(matches!(&error, ClassifiedError::Malformed { what, .. } if what == "no UTF-8 from byte 3 on"), "{error}");
    for content in ["a\nb", "a\r\nb\r\n", "\u{feff}a\nb\n", "a\nb\n\n", "a\nb\n \t\r\n"] {
        fs::write(root.join("classnames.txt"), content).unwrap();
        let given = ["a", "b"].map(String::from);
        // Whoever gives the set's own names takes none in their place.
        for set in [Classified::find(root).unwrap(), Classified::find_called(root, &given).unwrap()] {
            let set = set.unwrap();
            assert!(set.class_names == given && set.notices.is_empty(), "{content:?}: {set:?}");
        }
        let set = Classified::find_called(root, &given[..1]).unwrap().unwrap();
        assert!(set.class_names == given[..1] && set.notices.get("own_class_names").is_some(), "{content:?}: {set:?}");
    }
    fs::remove_file(root.join("classnames.txt")).unwrap();
    assert!(Classified::find_called(root, &["x".to_owned()]).unwrap().unwrap().notices.is_empty());
}
