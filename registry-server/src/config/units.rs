//! Durations and sizes as people write them.

use std::time::Duration;

use super::values::BadValue;

pub(super) fn parse_duration(text: &str) -> Result<Duration, BadValue> {
    humantime::parse_duration(text)
        .map_err(|_| BadValue::new(format!("\"{text}\" is not a duration")))
}

/// The duration in the largest unit that holds it exactly: `400d`, `30s`.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, name) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ] {
        if millis > 0 && millis.is_multiple_of(unit) {
            return format!("{}{name}", millis / unit);
        }
    }
    if millis == 0 {
        "0s".to_owned()
    } else {
        format!("{millis}ms")
    }
}

/// Parses a number of bytes: `65536`, `64KiB`, `256 MiB`, `10GB`.
pub fn parse_size(text: &str) -> Result<u64, BadValue> {
    let refuse = || {
        BadValue::new(format!(
            "\"{text}\" is not a size: write a whole number of bytes, KiB, MiB, GiB or TiB, such as 64KiB or 1536MiB"
        ))
    };
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000_u64.pow(2),
        "gb" => 1000_u64.pow(3),
        "tb" => 1000_u64.pow(4),
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(refuse()),
    };
    number.checked_mul(factor).ok_or_else(refuse)
}

pub(super) fn show_size(size: u64) -> String {
    for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if size > 0 && size.trailing_zeros() >= shift {
            return format!("{}{name}", size >> shift);
        }
    }
    size.to_string()
}

/// A size as people read it: `590 KiB`, `1.5 GiB`. Rounded, so it is nothing to reckon with.
pub fn human_size(size: u64) -> String {
    /// From here on it would be rounded to a whole of the next unit.
    const NEXT: f64 = 1023.5;
    #[expect(clippy::cast_precision_loss, reason = "it is rounded anyway")]
    let mut size = size as f64;
    let mut unit = "TiB";
    for smaller in ["bytes", "KiB", "MiB", "GiB"] {
        if size < NEXT {
            unit = smaller;
            break;
        }
        size /= 1024.0;
    }
    let tenths = (size * 10.0).round() / 10.0;
    let decimals = usize::from(tenths < 10.0 && tenths.fract() > 0.0);
    format!("{size:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip_and_refuse_nonsense() {
        for (text, size) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("256 MiB", 1 << 28),
            ("10GB", 10_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(size));
            assert_eq!(parse_size(&show_size(size)), Ok(size));
        }
        for text in ["", "KiB", "-1", "1.5GiB", "64 kilos", "99999999999 TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_read_sizes_in_few_digits() {
        for (size, shown) in [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (1024, "1 KiB"),
            (603_902, "590 KiB"),
            ((1 << 20) - 1, "1 MiB"),
            (3 << 29, "1.5 GiB"),
            (10 << 30, "10 GiB"),
            (10_239 << 20, "10 GiB"),
            (5000 << 40, "5000 TiB"),
        ] {
            assert_eq!(human_size(size), shown, "{size}");
        }
        let refused = parse_size("1.5GiB").unwrap_err().to_string();
        assert!(refused.contains("such as 64KiB or 1536MiB"), "{refused}");
    }

    #[test]
    fn durations_show_in_the_largest_exact_unit() {
        for text in ["400d", "24h", "90m", "30s", "1500ms", "0s"] {
            let shown = show_duration(parse_duration(text).unwrap());
            assert_eq!(parse_duration(&shown), parse_duration(text));
        }
        assert_eq!(show_duration(Duration::from_secs(400 * 86_400)), "400d");
        assert!(parse_duration("5 parsecs").is_err());
        assert!(parse_duration("30").is_err());
    }
}
