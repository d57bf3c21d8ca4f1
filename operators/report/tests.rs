#![allow(clippy::unwrap_used)]

use super::*;

fn sample_pairs() -> Vec<PairTile> {
    use trommel_synth::{Class, Rendition, draw};
    let encode = |p: trommel_synth::Picture| {
        let mut out = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_raw(p.width, p.height, p.pixels)
            .unwrap()
            .write_to(&mut out, image::ImageFormat::Png)
            .unwrap();
        out.into_inner()
    };
    let mut pairs = Vec::new();
    for rendition in [Rendition::Photo, Rendition::Sketch] {
        for (i, class) in Class::ALL.into_iter().take(7).enumerate() {
            let similarity = 0.99 - 0.013 * i as f64;
            pairs.push(PairTile {
                image: if i == 5 { b"?".to_vec() } else { encode(draw(class, rendition, 3 + (i as u64 % 2), 64)) },
                test_image: encode(draw(class, rendition, 3, 64)),
                similarity,
                radius: (i != 6).then_some(0.9 - 0.004 * i as f64),
                caption: ["a photo of a <lovely> & \"old\" thing that goes on and on", "", "my car"][i % 3].into(),
                benchmark: rendition.name().into(),
                key: format!("00003.tar/00003{i:04}"),
                kept: false,
                planted: (i % 2 == 0).then(|| "recompressed".to_owned()),
            });
        }
    }
    pairs
}

fn sample_series(name: &str) -> HistogramSeries {
    let mut series = HistogramSeries::new(name, 0.4, 1.0, 60);
    for i in 0..4000u64 {
        let t = (i * 2_654_435 % 4000) as f64 / 4000.0;
        let similarity = 0.45 + 0.4 * (t + (i % 97) as f64 / 97.0) / 2.0 + if i % 40 == 0 { 0.15 } else { 0.0 };
        series.add(similarity, similarity > 0.83);
        if i % 20 == 0 {
            series.add_radius(0.78 + 0.12 * t);
        }
    }
    series
}

fn sample_report() -> Report {
    Report {
        heading: Heading {
            title: "Pruned against two benchmarks".into(),
            lines: vec!["rule drop-over-radius, seed 0".into()],
        },
        kept: 3871,
        dropped: 113,
        rejected: 16,
        benchmarks: ["photo", "sketch"]
            .map(|name| BenchmarkCount {
                name: name.into(),
                points: 240,
                removed: 57,
                points_hit: 41,
                pool_max: Some(1.0),
                kept_max: if name == "photo" { Some(0.913_25) } else { None },
            })
            .to_vec(),
        histograms: vec![sample_series("photo"), sample_series("sketch")],
        curves: vec![CurveChart {
            benchmark: "photo".into(),
            curves: [("radii", 300), ("pool", 240), ("kept", 1)]
                .map(|(label, count)| Curve {
                    label: label.into(),
                    values: (0..count).map(|i| 0.5 + f64::from(i) / 700.0).collect(),
                })
                .to_vec(),
        }],
        kept_pairs: sample_pairs().into_iter().take(3).map(|pair| PairTile { kept: true, ..pair }).collect(),
        tables: Vec::new(),
        blurred: false,
        pairs: sample_pairs(),
        rejects: vec![("image_decode".into(), 9), ("no_image".into(), 7)],
        seconds: ["read", "decode", "embed", "join", "wait", "train"]
            .into_iter()
            .zip([1.2, 9.5, 31.0, 2.2, 0.0, 58.0])
            .map(|(name, s)| (name.into(), s))
            .collect(),
        facts: vec![("rule".into(), "drop-over-radius".into()), ("model".into(), "tiny".into())],
    }
}

/// Every element closed, no bare ampersand: enough of XML for what is written here.
fn well_formed(document: &str) {
    let mut open = Vec::new();
    for part in document.split('<').skip(1) {
        let (tag, rest) = part.split_once('>').unwrap();
        assert!(!rest.contains('>'), "bare > after {tag:.60}");
        for text in rest.split('&').skip(1) {
            assert!(text.split_once(';').is_some_and(|(name, _)| name.len() <= 5), "bare &: {text:.40}");
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?} not closed");
}

#[test]
fn picture_is_well_formed_and_complete() {
    let report = sample_report();
    let svg = picture(&report.heading, &report.pairs, &report.histograms);
    well_formed(&svg);
    assert_eq!(svg.matches("<image ").count(), 2 * 14 - 2);
    assert_eq!(svg.matches("no preview").count(), 2);
    assert!(svg.contains("&lt;lovely&gt; &amp;") && svg.contains("(no caption)") && svg.contains("0.9900"));
    assert!(!svg.contains("http://www.w3.org/1999") && svg.matches("http").count() == 1, "loads nothing");
    well_formed(&picture(&Heading::default(), &[], &[]));
}

#[test]
fn page_has_the_known_cells() {
    let page = html(&sample_report());
    for wanted in ["57 (41)", "3,871", "image_decode", "0.9133", "removed (distinct test points hit)", "0.40 %"] {
        assert!(page.contains(wanted), "{wanted} is missing");
    }
    assert!(!page.contains("<script") && !page.contains("src="));
    assert!(html(&Report::default()).contains("</html>"));
}

/// Python's csv module would read the same fields back; LaTeX has no bare special character.
#[test]
fn tables_are_csv_and_latex() {
    let mut table = DataTable::new("t_1", "Top & bottom", &["set", "accuracy", "(of)", "why"]);
    table.rows.push(vec![
        Cell::Text("a,\"b\"\n50 %".into()),
        Cell::Spread(0.25, 0.0125, 2),
        Cell::Count(12_345),
        Cell::number(None, 3),
    ]);
    table.rows.push(vec![
        Cell::Text("c_d".into()),
        Cell::Number(0.1, 1),
        Cell::Share(0, 0),
        Cell::Number(1.0 / 3.0, 2),
    ]);
    let fields = "set,accuracy,accuracy (spread),of,why\n\"a,\"\"b\"\"\n50 %\",0.25,0.0125,12345,\nc_d,0.1,,,0.3333333333333333\n";
    assert_eq!(table.csv(), fields);
    let latex = table.latex();
    assert!(latex.contains("\\caption{Top \\& bottom}") && latex.contains("{lrr}"), "{latex}");
    assert!(latex.contains("50 \\% & 0.25 $\\pm$ 0.01 (12,345) & -- \\\\"), "{latex}");
    assert!(latex.contains("c\\_d & 0.1 (-) & 0.33 \\\\"), "{latex}");
}

fn sample_chart(lines: usize) -> LineChart {
    let point = |at: usize, x: usize| LinePoint {
        x: 1000.0 * (x + 1) as f64,
        y: 20.0 + 7.0 * x as f64 - 3.0 * at as f64,
        spread: (at != 1).then_some(2.5),
    };
    let line = |at: usize| ChartLine {
        name: ["far", "near & <deep>", "random", "reference", "a name that goes on"][at % 5].into(),
        points: (0..4).map(|x| point(at, x)).collect(),
        dashed: at == 3,
    };
    LineChart {
        title: "Size, sketch".into(),
        x_label: "samples in the training set".into(),
        y_label: "zero-shot top-1, %".into(),
        lines: (0..lines).map(line).collect(),
        from_zero: true,
    }
}

#[test]
fn charts_stay_in_their_box_whatever_their_lines() {
    let odd = |points: &[(f64, f64)]| LineChart {
        lines: vec![ChartLine {
            points: points.iter().map(|&(x, y)| LinePoint { x, y, spread: None }).collect(),
            ..ChartLine::default()
        }],
        ..LineChart::default()
    };
    let many: Vec<(f64, f64)> = (0..200).map(|at| (f64::from(at) / 200.0 - 0.3, f64::from(at % 7))).collect();
    let charts = [
        sample_chart(3),
        sample_chart(9),
        LineChart::default(),
        odd(&[(3.0, 5.0)]),
        odd(&[(0.5, f64::NAN), (0.5, 0.25), (0.5, 0.25)]),
        odd(&many),
    ];
    for chart in charts {
        let svg = chart.svg(585.0);
        well_formed(&svg);
        let size = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split('"').next().unwrap();
        let (width, height) = size.split_once(' ').unwrap();
        let bounds = [
            ("x", width),
            ("cx", width),
            ("x1", width),
            ("x2", width),
            ("y", height),
            ("cy", height),
            ("y1", height),
            ("y2", height),
        ];
        for (name, bound) in bounds {
            for value in svg.split(&format!(" {name}=\"")).skip(1) {
                let value: f64 = value.split('"').next().unwrap().parse().unwrap();
                assert!((0.0..=bound.parse::<f64>().unwrap()).contains(&value), "{name} = {value} in {svg}");
            }
        }
    }
    let svg = sample_chart(3).svg(585.0);
    // 3 marks of 3 lines and 4 points, bars of two of them, and thousands with commas.
    assert_eq!((svg.matches("<circle").count(), svg.contains("near &amp; &lt;deep&gt;")), (12, true));
    assert!(svg.contains(">1,000<") && svg.contains(">4,000<"), "{svg}");
}

/// A text of a picture: what it says, and its box (left, right, top, bottom) in the widest font.
type Said = (String, [f64; 4]);

fn texts(svg: &str) -> Vec<Said> {
    let field = |tag: &str, name: &str| {
        tag.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
    };
    let read = |text: &str| {
        let (tag, rest) = text.split_once('>').unwrap();
        let said = rest.split("</text>").next().unwrap();
        let said =
            said.rsplit("</title>").next().unwrap().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let [x, y, size] = ["x", "y", "font-size"].map(|name| field(tag, name).parse::<f64>().unwrap());
        let style = super::svg::Style::new(size, "");
        let style = if tag.contains("font-weight") { style.bold() } else { style };
        let wide = super::svg::text_width(&said, style);
        let left = match field(tag, "text-anchor").as_str() {
            "middle" => x - wide / 2.0,
            "end" => x - wide,
            _ => x,
        };
        (said, [left, left + wide, y - 0.75 * size, y + 0.2 * size])
    };
    svg.split("<text ").skip(1).map(read).collect()
}

/// No text of an SVG lies over another one or leaves the picture.
fn legible(svg: &str) {
    well_formed(svg);
    let size = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split('"').next().unwrap();
    let (width, height) = size.split_once(' ').unwrap();
    let (width, height): (f64, f64) = (width.parse().unwrap(), height.parse().unwrap());
    let texts = texts(svg);
    for (at, (said, [left, right, top, bottom])) in texts.iter().enumerate() {
        let inside = *left >= 0.0 && *right <= width && *top >= 0.0 && *bottom <= height;
        assert!(inside, "{said:?} leaves {width} x {height}: {left} to {right}, {top} to {bottom}");
        for (other, [l, r, t, b]) in &texts[at + 1..] {
            assert!(right <= l || r <= left || bottom <= t || b <= top, "{said:?} and {other:?} overlap");
        }
    }
}

const NAMES: [&str; 3] = [
    "sketch",
    "imagenetv2-matched-frequency",
    "a benchmark & its <very> long name that somebody made of a PATH/and/of/everything/else/that/came/to/their/mind",
];

fn pieces(page: &str) -> impl Iterator<Item = String> + '_ {
    page.split("<svg ").skip(1).map(|piece| format!("<svg {}</svg>", piece.split("</svg>").next().unwrap()))
}

#[test]
fn no_text_of_a_histogram_lies_over_another() {
    for name in NAMES {
        for (low, high) in [(0.4, 1.0), (0.0, 1.0), (-1.0, 1.0), (0.95, 0.9505)] {
            for at in 0..=20 {
                for most in [1, 37, 23_456_789] {
                    let threshold = low + (high - low) * f64::from(at) / 20.0;
                    let mut series = HistogramSeries::new(name, low, high, 72);
                    (series.pool[0], series.dropped[0], series.threshold) = (most, most, Some(threshold));
                    let report = Report { histograms: vec![series], ..Report::default() };
                    pieces(&html(&report)).for_each(|piece| legible(&piece));
                }
            }
        }
    }
}

#[test]
fn no_text_of_a_curve_lies_over_another() {
    for name in NAMES {
        for (count, spread) in [(1, 0.0), (300, 0.5), (50_000, 1e-4)] {
            for labels in [&["reference", "pool", "kept"][..], &NAMES] {
                let values: Vec<f64> = (0..count).map(|i| 0.5 + spread * f64::from(i) / f64::from(count)).collect();
                let curve = |label: &&str| Curve { label: (*label).into(), values: values.clone() };
                let curves = labels.iter().map(curve).collect();
                let report =
                    Report { curves: vec![CurveChart { benchmark: name.into(), curves }], ..Report::default() };
                pieces(&html(&report)).for_each(|piece| legible(&piece));
            }
        }
    }
    // What is cut is whole in the tooltip.
    let curve = CurveChart { benchmark: NAMES[2].into(), curves: Vec::new() };
    let page = html(&Report { curves: vec![curve], ..Report::default() });
    let whole = "<title>a benchmark &amp; its &lt;very&gt; long name";
    assert!(page.matches(whole).count() == 2 && page.contains("…</text>"), "{page}");
    assert!(!html(&sample_report()).contains("sketch</title>sketch"), "a name that fits needs no tooltip");
}

#[test]
fn no_text_of_the_other_charts_lies_over_another() {
    let gap = |benchmark: &str, reference: &str| Gap {
        benchmark: benchmark.into(),
        reference: reference.into(),
        radii: vec![0.5, 0.9, 1.0],
    };
    let gaps: Vec<Gap> =
        NAMES.iter().flat_map(|benchmark| NAMES.iter().chain(&["x", "y"]).map(|of| gap(benchmark, of))).collect();
    legible(&gap_picture(&gaps));
    for lines in [1, 3, 9] {
        let mut chart = sample_chart(lines);
        legible(&chart.svg(585.0));
        (chart.title, chart.lines[0].name) = (NAMES[2].into(), NAMES[2].into());
        chart.lines[0].points.push(LinePoint { x: 9e6, y: 12_345_678.0, spread: None });
        legible(&chart.svg(585.0));
    }
    let mut report = sample_report();
    report.heading.lines.push(NAMES.concat());
    report.pairs.iter_mut().for_each(|pair| (pair.caption, pair.key) = (NAMES[2].into(), NAMES[2].into()));
    report
        .histograms
        .iter_mut()
        .for_each(|series| (series.benchmark, series.threshold) = (NAMES[2].into(), Some(0.45)));
    legible(&picture(&report.heading, &report.pairs, &report.histograms));
}

#[test]
fn a_page_of_parts_has_all_of_them() {
    let mut table = DataTable::new("accuracy", "Accuracy & size", &["set", "sketch"]);
    table.rows.push(vec![Cell::Text("near".into()), Cell::Spread(12.345, 0.5, 2)]);
    let charts = PagePart::Charts {
        title: "Charts".into(),
        note: "a < b".into(),
        charts: vec![sample_chart(2), sample_chart(3)],
    };
    let heading = Heading { title: "Study".into(), lines: vec!["one line".into()] };
    let page = page(&heading, &[("trainings".into(), "51".into())], &[charts, PagePart::Table(table)]);
    for wanted in ["<h1>Study</h1>", "a &lt; b", "12.35 ± 0.50", "Accuracy &amp; size", "<b>51</b>", "one line"] {
        assert!(page.contains(wanted), "{wanted} is missing in {page}");
    }
    assert!(page.matches("<svg").count() == 2 && !page.contains("<script") && !page.contains("src="));
}

#[test]
fn bins_hold_everything() {
    let mut series = HistogramSeries::new("b", 0.0, 1.0, 10);
    for value in [-1.0, 0.0, 0.05, 0.1, 0.95, 1.0, 2.0] {
        series.add(value, value > 0.9);
    }
    assert_eq!((series.pool[0], series.pool[1], series.pool[9]), (3, 1, 3));
    assert_eq!(series.dropped, [0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    let (low, high) = HistogramSeries::span([0.4132, 0.9871]);
    assert!((0.3..=0.4132).contains(&low) && (0.9871..1.1).contains(&high), "{low} {high}");
    assert_eq!(HistogramSeries::span([]), (0.0, 1.0));
    let one = HistogramSeries::span([0.5]);
    assert!(one.0 <= 0.5 && one.1 >= 0.5);
    let _ = picture(&Heading::default(), &[], &[HistogramSeries::new("b", one.0, one.1, 8)]);
}

/// `TROMMEL_CONTACT_SHEETS=FOLDER` writes an example of both to look at.
#[test]
fn examples_to_look_at() {
    let Some(folder) = std::env::var_os("TROMMEL_CONTACT_SHEETS") else {
        eprintln!("skipped: set TROMMEL_CONTACT_SHEETS to a folder for an example picture and page");
        return;
    };
    let (folder, report) = (std::path::Path::new(&folder), sample_report());
    std::fs::write(folder.join("picture.svg"), picture(&report.heading, &report.pairs, &report.histograms)).unwrap();
    std::fs::write(folder.join("report.html"), html(&report)).unwrap();
    let mut long = sample_report();
    for (at, series) in long.histograms.iter_mut().enumerate() {
        (series.benchmark, series.threshold) = (NAMES[1 + at].into(), Some([0.45, 1.0][at]));
    }
    long.curves[0].benchmark = NAMES[1].into();
    long.curves.push(CurveChart { benchmark: NAMES[2].into(), ..long.curves[0].clone() });
    long.pairs.iter_mut().for_each(|pair| pair.caption = NAMES[2].into());
    std::fs::write(folder.join("long_names.html"), html(&long)).unwrap();
    let gaps = NAMES.map(|name| Gap { benchmark: name.into(), reference: name.into(), radii: vec![0.5, 0.9, 1.0] });
    std::fs::write(folder.join("gap.svg"), gap_picture(&gaps)).unwrap();
    std::fs::write(folder.join("chart.svg"), sample_chart(5).svg(720.0)).unwrap();
}
