//! A percentage, exactly as written in decimal.

use std::fmt;
use std::str::FromStr;

/// Digits after the point that are understood.
const MAX_FRACTION_DIGITS: usize = 18;

/// A number of per cent between 0 and 100, held as an integer over a power of ten. No floating point anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Percent {
    /// The number without its point.
    digits: u128,
    /// Digits after the point; the last is not zero.
    fraction_digits: u32,
}

impl Percent {
    /// `floor(P / 100 * 2^64)`; `None` for 100 %, whose threshold is 2^64: every u64 lies below it.
    #[must_use]
    pub fn threshold(self) -> Option<u64> {
        // At most 100 * 10^18 < 2^67, so doubling a remainder fits easily.
        let whole = 100 * 10u128.pow(self.fraction_digits);
        if self.digits >= whole {
            return None;
        }
        let (mut rest, mut quotient) = (self.digits, 0u64);
        for _ in 0..64 {
            rest *= 2;
            quotient <<= 1;
            if rest >= whole {
                rest -= whole;
                quotient |= 1;
            }
        }
        Some(quotient)
    }

    /// This share of a number, rounded down.
    ///
    /// ```
    /// use trommel_decide::percent::Percent;
    /// let share: Percent = "28.7".parse()?;
    /// assert_eq!((share.of(1_000), share.of(999), share.of(u64::MAX)), (287, 286, 5_294_215_549_154_641_313));
    /// # Ok::<(), trommel_decide::percent::PercentError>(())
    /// ```
    #[must_use]
    pub fn of(self, number: u64) -> u64 {
        let whole = 100 * 10u128.pow(self.fraction_digits);
        let (high, low) = (u128::from(number >> 32), u128::from(number & 0xffff_ffff));
        let upper = self.digits * high;
        let lower = ((upper % whole) << 32) + self.digits * low;
        u64::try_from(((upper / whole) << 32) + lower / whole).unwrap_or(u64::MAX)
    }

    /// Whether a draw falls into this share.
    #[must_use]
    pub fn takes(self, hash: u64) -> bool {
        self.threshold().is_none_or(|threshold| hash < threshold)
    }
}

/// What is no percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    /// Anything but digits with one point.
    #[error("`{0}` is no decimal number such as 50 or 12.5")]
    NoDecimal(String),
    /// More digits than are exact.
    #[error("`{0}` has more than {most} digits after the point", most = MAX_FRACTION_DIGITS)]
    TooFine(String),
    /// More than 100 percent.
    #[error("`{0}` is more than 100")]
    Over(String),
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !fraction.is_none_or(digits) {
            return Err(PercentError::NoDecimal(text.to_owned()));
        }
        let fraction = fraction.unwrap_or("").trim_end_matches('0');
        if fraction.len() > MAX_FRACTION_DIGITS {
            return Err(PercentError::TooFine(text.to_owned()));
        }
        let whole = whole.trim_start_matches('0');
        let over = || PercentError::Over(text.to_owned());
        if whole.len() > 3 {
            return Err(over());
        }
        let digits = format!("0{whole}{fraction}").parse::<u128>().map_err(|_| over())?;
        let percent = Self { digits, fraction_digits: fraction.len() as u32 };
        if digits > 100 * 10u128.pow(percent.fraction_digits) {
            return Err(over());
        }
        Ok(percent)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10u128.pow(self.fraction_digits);
        write!(f, "{}", self.digits / scale)?;
        if self.fraction_digits > 0 {
            write!(f, ".{:0width$}", self.digits % scale, width = self.fraction_digits as usize)?;
        }
        Ok(())
    }
}
