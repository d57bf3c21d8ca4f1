//! Places of a legend's entries: side by side, on as many lines as they need.

/// Where entries of these widths begin (pixels from the left, line from 0), and the number of lines, at least one. An entry that is
/// wider than `room` has a line of its own.
pub(super) fn flow(widths: impl IntoIterator<Item = f64>, room: f64) -> (Vec<(f64, usize)>, usize) {
    let (mut places, mut x, mut line) = (Vec::new(), 0.0, 0);
    for wide in widths {
        if x > 0.0 && x + wide > room {
            (x, line) = (0.0, line + 1);
        }
        places.push((x, line));
        x += wide;
    }
    (places, line + 1)
}
