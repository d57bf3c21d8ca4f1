#![allow(clippy::unwrap_used)]

use super::*;

/// SplitMix64's finaliser.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn picture(seed: u64, width: u32, height: u32, edge: bool) -> Vec<u8> {
    let byte = |i: u64| (mix((seed << 32) + i) >> 56) as u8;
    let edged = |value: u8| if value < 128 { 0 } else { 255 };
    (0..u64::from(width) * u64::from(height) * 3).map(|i| if edge { edged(byte(i)) } else { byte(i) }).collect()
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The file beside the decoder was written by `make_resize.py` with the Pillow version that its first line names.
#[test]
fn equals_pillow_to_the_bit() {
    let golden = include_str!("../../../decode/golden/resize.txt");
    let mut seen = 0;
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let n: Vec<u32> = fields.iter().map(|field| field.parse().unwrap_or(0)).collect();
        // An interpreter takes the small ones.
        if cfg!(miri) && n[2] * n[3] + n[12] * n[13] > 2000 {
            continue;
        }
        let pixels = picture(u64::from(n[0]), n[2], n[3], fields[1] == "edge");
        let area = Window { left: n[4], top: n[5], width: n[6], height: n[7] };
        let window = Window { left: n[10], top: n[11], width: n[12], height: n[13] };
        let filter = if fields[14] == "bicubic" { Filter::Bicubic } else { Filter::Bilinear };
        let view = View::crop(&pixels, n[2], n[3], area).unwrap();
        for kernels in [passes::portable(), passes::fast()] {
            let out = resize_with(&view, n[8], n[9], window, filter, kernels).unwrap();
            assert_eq!(format!("{:016x}", fnv(&out)), fields[15], "{line}");
        }
        seen += 1;
    }
    assert_eq!(seen, if cfg!(miri) { 23 } else { 40 });
}

#[test]
fn the_fast_path_equals_the_portable_one() {
    for case in 0..if cfg!(miri) { 3 } else { 300u64 } {
        let pick = |salt: u64, most: u64| 1 + (mix(case * 16 + salt) % most) as u32;
        let (width, height, across, down) = (pick(1, 90), pick(2, 90), pick(3, 70), pick(4, 70));
        let filter = if case % 4 == 0 { Filter::Bilinear } else { Filter::Bicubic };
        let pixels = picture(case, width, height, case % 2 == 0);
        let (w, h) = (pick(5, u64::from(width)), pick(6, u64::from(height)));
        let area = Window { left: width - w, top: (height - h) / 2, width: w, height: h };
        let (w, h) = (pick(7, u64::from(across)), pick(8, u64::from(down)));
        let window = Window { left: (across - w) / 2, top: down - h, width: w, height: h };
        let view = View::crop(&pixels, width, height, area).unwrap();
        let plain = resize_with(&view, across, down, window, filter, passes::portable()).unwrap();
        let fast = resize_with(&view, across, down, window, filter, passes::fast()).unwrap();
        assert!(plain == fast, "case {case}: {area:?} of {width} x {height} to {window:?} of {across} x {down}");
    }
}

#[test]
fn a_window_is_a_part_of_the_whole() {
    let pixels = picture(1, 61, 47, false);
    let view = View::whole(&pixels, 61, 47).unwrap();
    let whole = resize_rgb8(&view, 30, 20, Window::whole(30, 20), Filter::Bicubic).unwrap();
    let window = Window { left: 7, top: 3, width: 11, height: 9 };
    let part = resize_rgb8(&view, 30, 20, window, Filter::Bicubic).unwrap();
    for row in 0..9 {
        let from = ((3 + row) * 30 + 7) * 3;
        assert_eq!(part[row * 33..(row + 1) * 33], whole[from..from + 33]);
    }
}

#[test]
fn a_tall_picture_is_done_in_strips_and_its_columns_are_the_same() {
    let (rows, across) = if cfg!(miri) { (4, 5) } else { (9000, 400) };
    let pixels = picture(5, 3, rows, false);
    let view = View::whole(&pixels, 3, rows).unwrap();
    let whole = resize_rgb8(&view, across, 20, Window::whole(across, 20), Filter::Bicubic).unwrap();
    assert!(cfg!(miri) || strip_columns(9000) < 400);
    for left in (0..across).step_by(13) {
        let column = Window { left, top: 0, width: 1, height: 20 };
        let column = resize_rgb8(&view, across, 20, column, Filter::Bicubic).unwrap();
        let of_whole = whole.chunks_exact(across as usize * 3).flat_map(|row| &row[left as usize * 3..][..3]);
        assert!(of_whole.eq(&column), "{left}");
    }
    // What is stated holds the largest side there is.
    assert!(scratch_bytes(1, 65_535, &Window::whole(480, 480)) < 8 << 20);
}

#[test]
fn what_does_not_fit_is_refused() {
    let pixels = vec![0; 30];
    assert!(matches!(View::whole(&pixels, 4, 3), Err(ResizeError::View { .. })));
    assert!(matches!(View::whole(&pixels, 0, 3), Err(ResizeError::Size { .. })));
    assert!(matches!(View::whole(&[], u32::MAX, u32::MAX), Err(ResizeError::Size { .. })));
    let area = Window { left: 1, top: 0, width: u32::MAX, height: 1 };
    assert!(matches!(View::crop(&pixels, 5, 2, area), Err(ResizeError::Window { .. })));
    let view = View::whole(&pixels, 5, 2).unwrap();
    assert!(matches!(resize_rgb8(&view, 0, 2, Window::whole(1, 1), Filter::Bicubic), Err(ResizeError::Size { .. })));
    assert!(matches!(resize_rgb8(&view, 2, 2, Window::whole(2, 3), Filter::Bicubic), Err(ResizeError::Window { .. })));
    assert_eq!(resize_rgb8(&view, 5, 2, Window::whole(5, 2), Filter::Bicubic).unwrap(), pixels);
}
