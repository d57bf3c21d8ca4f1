//! Selections: what is read is written so that it is read again as it was, however long it is.

use crate::selection::{Selection, named};

fn read(text: &str) -> Selection {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn again(selection: &Selection) {
    let text = selection.to_string();
    assert_eq!(&read(&text), selection, "{text:.200}");
}

/// A keyword list of thousands is one operation in a row: nothing of it stands in anything else.
#[test]
fn a_long_list_is_written_as_it_was_read() {
    for (word, terms) in [("or", 150), ("and", 150), ("minus", 150), ("or", 1_100), ("or", 9_000)] {
        let list =
            (0..terms).map(|at| format!("where:caption~word{at}")).collect::<Vec<_>>().join(&format!(" {word} "));
        let selection = read(&list);
        assert_eq!(selection.to_string(), list);
        again(&selection);
        assert_eq!(selection.rules().len(), terms);
        let counted = read(&format!("far:5 of (not ({list}))"));
        again(&counted);
        assert_eq!(counted.columns().len(), terms);
    }
    let too_many = vec!["near"; 20_001].join(" or ").parse::<Selection>().unwrap_err().to_string();
    assert!(too_many.ends_with("more than 20000 rules and operations"), "{too_many:.300}");
}

#[test]
fn parentheses_that_mean_something_stay() {
    for text in [
        "random:5 minus (random:4 minus random:3)",
        "(random:5 minus random:4) minus random:3",
        "random:5 minus random:4 minus random:3",
        "random:5 or (random:4 and random:3) or random:2",
        "random:5 or (random:4 or random:3)",
        "not (random:5 or random:4)",
        "not not random:5",
        "random:5 of (random:4 and random:3)",
        "random:5 per and of random:4",
    ] {
        let text = text.replace("per and", "per 'and'");
        assert_eq!(read(&text).to_string(), text);
        again(&read(&text));
    }
}

/// Names put selections into each other: as deep as can be read again, and no deeper.
#[test]
fn terms_behind_names_are_as_deep_as_their_text() {
    let chain = |count: usize| -> Vec<String> {
        let rule = |at: usize| match (at, at % 3) {
            (0, _) => "n0=near".to_owned(),
            (_, 0) => format!("n{at}=not n{}", at - 1),
            (_, 1) => format!("n{at}=random:1% or n{}", at - 1),
            _ => format!("n{at}=far:5 of n{}", at - 1),
        };
        (0..count).map(rule).collect()
    };
    let (mut read, mut deepest) = (0, 0);
    for count in 90..130 {
        match named(&chain(count)) {
            Ok(splits) => {
                splits.iter().for_each(|(_, selection)| again(selection));
                (read, deepest) = (read + 1, count);
            }
            Err(error) => assert!(error.to_string().contains("more than 100 terms stand in each other"), "{error}"),
        }
    }
    assert!((100..110).contains(&deepest) && read == deepest - 89, "{deepest} {read}");
    // In a row nothing stands in anything.
    let row: Vec<String> =
        (0..300).map(|at| if at == 0 { "n0=near".into() } else { format!("n{at}=near or random:{at}") }).collect();
    named(&row).unwrap().iter().for_each(|(_, selection)| again(selection));
}
