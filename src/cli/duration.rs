//! Times on the command line: `90s`, `10m`, `2h`, `250ms`; a bare number is seconds.

use std::time::Duration;

use crate::wrong_value::WrongValue;

/// Parses a time.
///
/// # Errors
/// What is no time.
pub fn parse(text: &str) -> Result<Duration, WrongValue> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("`{other}` is no unit of time: write ms, s, m or h").into()),
    };
    let value: f64 = number.parse().map_err(|_| format!("`{text}` is no time: write 30s or 10m"))?;
    Duration::try_from_secs_f64(value * seconds).map_err(|_| format!("`{text}` is no time that can pass").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("7"), Ok(Duration::from_secs(7)));
        for wrong in ["", "s", "3d", "-1s", "1s2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
