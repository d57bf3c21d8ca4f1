//! Pages and pictures as a reader sees them, in a Chromium that `TROMMEL_CHROMIUM` names: wide and narrow.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use common::chromium::Chromium;
use common::{RECIPE, World, run, words};
use serde_json::Value;
use trommel_report::{Cell, ChartLine, DataTable, Heading, LineChart, LinePoint, PagePart, page};

const LOOK: &str = include_str!("common/look.js");
/// A desktop's window, and a telephone's.
const WINDOWS: [(u32, u32); 2] = [(1280, 900), (390, 844)];

/// What is wrong with a page, in both windows; a picture has a width of its own, and is looked at in the wide one.
fn faults(chromium: &mut Chromium, page: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let is_picture = page.extension().is_some_and(|extension| extension == "svg");
    for window in WINDOWS.into_iter().take(if is_picture { 1 } else { 2 }) {
        chromium.open(page, window);
        let Value::Array(seen) = chromium.evaluate(LOOK) else { panic!("no list of faults") };
        let seen = seen.iter().map(|fault| fault.as_str().unwrap().to_owned());
        faults.extend(seen.chain(chromium.complaints()).map(|fault| format!("{}: {fault}", window.0)));
    }
    faults
}

#[test]
fn a_report_is_whole_and_shows_its_pairs_when_they_are_clicked() {
    let Some(mut chromium) = Chromium::start() else { return };
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let (judged, other) = (folder.path().join("run"), folder.path().join("other"));
    run(0, &words(&world.prune(&judged)));
    let other = other.display().to_string();
    run(0, &["prune", &world.shards(), "--run", &other, "--rule", "random:50%"]);
    let path = |name: &str| folder.path().join(name);
    let (html, svg) = (path("report.html"), path("report.svg"));
    let judged = judged.display().to_string();
    run(0, &["report", &judged, "-o", &html.display().to_string(), "--blur", "--against", &other]);
    run(0, &["report", &judged, "-o", &svg.display().to_string()]);
    for page in [&html, &svg] {
        assert_eq!(faults(&mut chromium, page), Vec::<String>::new(), "{}", page.display());
    }

    chromium.open(&html, WINDOWS[0]);
    let pairs = chromium.evaluate("document.querySelectorAll('.blurred > div').length").as_u64().unwrap();
    assert!(pairs > 10, "{pairs}");
    let blur = |chromium: &mut Chromium, pair: u64| {
        let of = format!("document.querySelectorAll('.blurred > div')[{pair}].querySelectorAll('image')");
        chromium.evaluate(&format!("[...{of}].map((image) => getComputedStyle(image).filter).join()"))
    };
    let (hidden, shown) = ("blur(9px),blur(9px)", "none,none");
    for pair in [0, pairs - 1] {
        assert_eq!(blur(&mut chromium, pair), hidden);
        let place = format!(
            "(() => {{ const pair = document.querySelectorAll('.blurred > div')[{pair}]; pair.scrollIntoView({{ block: 'center' }}); \
             const box = pair.getBoundingClientRect(); return [box.x + box.width / 3, box.y + box.height / 3]; }})()"
        );
        let place = chromium.evaluate(&place);
        chromium.click(place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
        assert_eq!((blur(&mut chromium, pair), blur(&mut chromium, 1)), (shown.into(), hidden.into()), "{pair}");
    }
}

/// Who judges says whether a report blurs, also when the run is begun already; no decision hangs on it.
#[test]
fn a_run_says_that_its_pictures_are_blurred() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let prune = world.prune(&folder.path().join("run"));
    run(0, &words(&prune));
    let (judged, page) = (path("run"), path("page.html"));
    let blurred = |run_folder: &str| {
        run(0, &["report", run_folder, "-o", &page]);
        let text = fs::read_to_string(&page).unwrap();
        let blurred = text.contains("<div class=\"grid blurred\">");
        assert_eq!(blurred, !text.contains("<div class=\"grid\">"), "pairs of both kinds");
        blurred
    };
    assert!(!blurred(&judged));
    // Who trains by decisions asks for his own pages.
    let trained = path("trained");
    run(0, &[&["train", "--decisions", &judged, "--run", &trained, "--steps", "6", "--blur"], &RECIPE[..]].concat());
    let config: Value = serde_json::from_slice(&fs::read(Path::new(&trained).join("config.json")).unwrap()).unwrap();
    assert_eq!(config["record"]["blur"], true);
    let hash = |run_folder: &str| {
        let text = fs::read(Path::new(run_folder).join("config.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["decision_hash"].clone()
    };
    let before = hash(&judged);
    run(0, &[&words(&prune)[..], &["--blur"]].concat());
    run(0, &words(&prune));
    assert!(blurred(&judged) && hash(&judged) == before);
    let said = common::stderr(&run(2, &["report", &judged, "-o", &path("picture.svg")]));
    assert!(said.contains("blurred until somebody clicks on them, which they cannot be in a picture"), "{said}");

    let (shards, watched) = (world.path("data/shards"), path("watched"));
    let (watch, judging) = (["watch", &shards, "--run", &watched, "--settle", "0s", "--once"], world.judging());
    let watch = [&watch[..], &words(&judging)].concat();
    run(0, &watch);
    assert!(!blurred(&path("watched/current/main")));
    // Nothing else has changed, and the epoch that is shown is blurred.
    run(0, &[&watch[..], &["--blur"]].concat());
    assert!(blurred(&path("watched/current/main")));
}

#[test]
fn pages_of_charts_and_pictures_of_gaps_are_whole() {
    let Some(mut chromium) = Chromium::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let point = |x: u32| LinePoint { x: f64::from(x) * 1e6, y: f64::from(x * x), spread: Some(3.0) };
    let names = ["far", "near", "random", "a reference set with a long name", "far from sketch and cartoon"];
    let chart = |title: &str| LineChart {
        title: title.into(),
        x_label: "samples in the training set".into(),
        y_label: "zero-shot top-1, %".into(),
        lines: names
            .map(|name| ChartLine { name: name.into(), points: (0..7).map(point).collect(), dashed: false })
            .to_vec(),
        from_zero: true,
    };
    let columns =
        ["training set", "samples", "imagenet-sketch", "imagenet-rendition", "imagenet-validation", "objectnet"];
    let mut table = DataTable::new("accuracy", "Accuracy", &columns).noted("Mean and spread over three seeds.");
    for name in names {
        let spreads = [12.345, 6.0, 71.25, 0.5].map(|mean| Cell::Spread(mean, 0.875, 2));
        table.rows.push([Cell::Text(name.into()), Cell::Count(200_000_000)].into_iter().chain(spreads).collect());
    }
    let charts = ["size", "similarity"].map(chart).to_vec();
    let charts = PagePart::Charts { title: "Accuracy".into(), note: "Against size.".into(), charts };
    let heading = Heading { title: "Accuracy and train-test similarity".into(), lines: vec!["one line".into()] };
    let cards = [("samples of the pool".to_owned(), "200,000,000".to_owned())];
    let html = folder.path().join("study.html");
    fs::write(&html, page(&heading, &cards, &[charts, PagePart::Table(table)])).unwrap();
    let gap = World::shared().path("radii/gap.svg");
    for page in [html.as_path(), Path::new(&gap)] {
        assert_eq!(faults(&mut chromium, page), Vec::<String>::new(), "{}", page.display());
    }
}

/// Each fault is seen on a page that has it.
#[test]
fn what_is_broken_is_seen() {
    let Some(mut chromium) = Chromium::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let cases = [
        ("<p>sound</p>", ""),
        ("<div style=\"width:1500px\">wide</div>", "1280: the page is 15"),
        ("<div style=\"width:1500px\">wide</div>", "390: <DIV> reaches from"),
        ("<div style=\"overflow:hidden\"><p style=\"margin-left:-90px\">cut</p></div>", "1280: <P> reaches from"),
        ("<img src=\"data:image/png;base64,bm9uZQ==\">", "390: a picture is not shown"),
        (
            "<svg viewBox=\"0 0 50 20\"><text x=\"4\" y=\"14\">longer than that</text></svg>",
            "1280: text leaves its picture",
        ),
        (
            "<table><tr><td style=\"width:1ch;max-width:1ch;overflow-wrap:anywhere\">cartoon</td></tr></table>",
            "a word stands on",
        ),
        ("<script>console.error('oh')</script>", "1280: console: \"oh\""),
        ("<script>throw new Error('no')</script>", "390: exception: "),
        ("<link rel=\"stylesheet\" href=\"other.css\">", "1280: loads file://"),
    ];
    for (body, due) in cases {
        fs::write(&page, format!("<!doctype html><meta charset=\"utf-8\"><title>t</title><body>{body}</body>"))
            .unwrap();
        let faults = faults(&mut chromium, &page);
        assert_eq!(faults.is_empty(), due.is_empty(), "{body}: {faults:?}");
        assert!(due.is_empty() || faults.iter().any(|fault| fault.contains(due)), "{body}: {faults:?}");
    }
}
