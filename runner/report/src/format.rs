//! Numbers, times and sizes for people.

/// `1234567` → `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 chunks`, `1 chunk`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `1536` → `1.5 KiB`.
pub fn bytes(number: u64) -> String {
    let (divisor, unit) = byte_unit(number);
    if divisor == 1 { format!("{number} B") } else { format!("{:.1} {unit}", number as f64 / divisor as f64) }
}

/// The largest binary unit that is not larger than a number of bytes: its size and its name.
pub fn byte_unit(number: u64) -> (u64, &'static str) {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    UNITS.into_iter().find(|(size, _)| number >= *size).unwrap_or((1, "B"))
}

/// `0.0421` → `42 ms`, `75` → `1 min 15 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds <= 0.0 {
        return "0 s".into();
    }
    if seconds < 0.001 {
        return "under 1 ms".into();
    }
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// A rate per second; `–` if no time passed.
pub fn rate(number: u64, seconds: f64) -> String {
    if seconds > 0.0 { count((number as f64 / seconds).round() as u64) } else { "–".into() }
}

/// `0.9951` → `99.5 %`. A share below 1 is never rounded to 100 %.
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    let percent = if percent < 100.0 { percent.min(99.9) } else { percent };
    format!("{percent:.1} %")
}

/// `part`, followed by its share of `whole` unless that is 0: `88 (0.7 %)`.
pub fn part(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        count(part)
    } else {
        format!("{} ({})", count(part), share(part as f64 / whole as f64))
    }
}

/// A score or a metric, with four decimals.
pub fn score(score: f64) -> String {
    format!("{score:.4}")
}

/// A short count: `56788425` → `56.8M`.
pub fn short(number: u64) -> String {
    if number < 1_000_000 {
        return count(number);
    }
    let (divisor, suffix) = if number < 1_000_000_000 { (1e6, "M") } else { (1e9, "G") };
    format!("{:.1}{suffix}", number as f64 / divisor)
}

/// A label of an axis: `410000` → `410k`.
pub fn axis(number: f64) -> String {
    let (scaled, suffix) = match number.abs() {
        size if size >= 1e9 => (number / 1e9, "G"),
        size if size >= 1e6 => (number / 1e6, "M"),
        size if size >= 1e3 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    // Ticks of an axis are round numbers: digits after the second decimal are rounding errors.
    let text = format!("{scaled:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{suffix}")
}

/// The first 12 digits of a sha256.
pub fn digest(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (counted(1, "shard", "shards"), counted(2, "shard", "shards")),
            ("1 shard".into(), "2 shards".into())
        );
    }

    #[test]
    fn short_counts_have_a_suffix() {
        for (number, text) in [(999_999, "999,999"), (56_788_425, "56.8M"), (3_210_000_000, "3.2G")] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        for (number, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (u64::MAX, "16777216.0 TiB")]
        {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times_have_one_or_two_units() {
        for (number, text) in [
            (0.0, "0 s"),
            (0.0001, "under 1 ms"),
            (0.0421, "42 ms"),
            (0.9999, "1.0 s"),
            (12.34, "12.3 s"),
            (59.97, "1 min 00 s"),
            (75.0, "1 min 15 s"),
            (7500.0, "2 h 05 min"),
        ] {
            assert_eq!(seconds(number), text);
        }
    }

    #[test]
    fn almost_all_is_not_all() {
        for (number, text) in [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.5, "50.0 %"), (0.0, "0.0 %")] {
            assert_eq!(share(number), text);
        }
        assert_eq!((part(0, 5), part(1, 4), part(1, 0)), ("0".into(), "1 (25.0 %)".into(), "1".into()));
    }

    #[test]
    fn a_rate_needs_time() {
        assert_eq!((rate(100, 0.0), rate(100, 3.0)), ("–".into(), "33".into()));
    }

    #[test]
    fn an_axis_is_short() {
        for (number, text) in
            [(0.0, "0"), (0.5, "0.5"), (1500.0, "1.5k"), (410_000.0, "410k"), (2e6, "2M"), (3e9, "3G")]
        {
            assert_eq!(axis(number), text);
        }
    }
}
