//! Limits of requests.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{forms::optional_text, values::BadValue};

/// The most requests that a rate or a burst may name.
const MOST: u64 = 1_000_000;
/// The longest time in which a burst comes back.
const LONGEST: u64 = 86_400 * SECOND;
/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// `[limits]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests of an address; of IPv6, of a network of 64 bits.
    #[serde(with = "optional_text")]
    pub address: Option<Rate>,
    /// Requests of a user; without credentials each address is one.
    #[serde(with = "optional_text")]
    pub principal: Option<Rate>,
    /// Requests to the repositories of a namespace.
    #[serde(with = "optional_text")]
    pub namespace: Option<Rate>,
}

impl LimitsConfig {
    /// The longest time in which one of the bursts comes back, if there is any limit.
    pub fn longest(&self) -> Option<Duration> {
        let rates = [&self.address, &self.principal, &self.namespace];
        let windows = rates.into_iter().flatten().map(Rate::window);
        windows.max().map(Duration::from_nanos)
    }
}

/// How many requests may come: `200/s`, `5000/m`, `200/s burst 400`. Without a burst, it is what comes in one such time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU64,
    unit: Unit,
    burst: NonZeroU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Unit {
    fn nanos(self) -> u64 {
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 3600 * SECOND,
        }
    }
}

impl Rate {
    /// Nanoseconds for one request, rounded up so that no more come than was said.
    pub fn interval(&self) -> u64 {
        self.unit.nanos().div_ceil(self.count.get())
    }

    /// Nanoseconds in which a whole burst comes back.
    pub fn window(&self) -> u64 {
        self.burst.get().saturating_mul(self.interval())
    }
}

impl FromStr for Rate {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::new(format!("\"{text}\" is not a rate"));
        let words: Vec<&str> = text.split_whitespace().collect();
        let (rate, burst) = match words[..] {
            [rate] => (rate, None),
            [rate, "burst", burst] => (rate, Some(burst)),
            _ => return Err(bad()),
        };
        let (count, unit) = rate.split_once('/').ok_or_else(bad)?;
        let unit = match unit {
            "s" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return Err(bad()),
        };
        let number = |text: &str| {
            let number: NonZeroU64 = text.parse().map_err(|_| bad())?;
            match number.get() <= MOST {
                true => Ok(number),
                false => Err(BadValue::new(format!("{number} is more than {MOST}"))),
            }
        };
        let count = number(count)?;
        let burst = burst.map_or(Ok(count), number)?;
        let rate = Self { count, unit, burst };
        if rate.window() > LONGEST {
            return Err(BadValue::new(format!(
                "at this rate a burst of {burst} takes more than a day to come back; use a smaller one"
            )));
        }
        Ok(rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => "s",
            Unit::Minute => "m",
            Unit::Hour => "h",
        };
        write!(f, "{}/{unit}", self.count)?;
        match self.burst == self.count {
            true => Ok(()),
            false => write!(f, " burst {}", self.burst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shown_as_they_were_written() {
        for text in ["200/s", "5000/m", "1/h", "200/s burst 400", "9/s burst 1"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        let spaced: Rate = " 200/s   burst  200 ".parse().unwrap();
        assert_eq!(spaced.to_string(), "200/s");
        let rate: Rate = "3/s burst 7".parse().unwrap();
        assert_eq!(
            (rate.interval(), rate.window()),
            (333_333_334, 2_333_333_338)
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "200",
            "0/s",
            "-1/s",
            "1.5/s",
            "200/d",
            "200 / s",
            "200/s burst",
            "200/s burst 0",
            "200/s boost 4",
            "200/s burst 4 5",
            "1000001/s",
            "1/h burst 25",
            "99999999999999999999/s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!("1/h burst 24".parse::<Rate>().is_ok());
    }
}
