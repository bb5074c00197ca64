//! Kubernetes quantities (`500m`, `8Gi`, `1e3`) as numbers.

/// The value of `quantity` in its base unit: cores, bytes, devices.
pub(super) fn parse(quantity: &str) -> Option<f64> {
    let split = quantity.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(split);
    let number: f64 = number.parse().ok()?;
    let scale = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 2f64.powi(10),
        "Mi" => 2f64.powi(20),
        "Gi" => 2f64.powi(30),
        "Ti" => 2f64.powi(40),
        "Pi" => 2f64.powi(50),
        "Ei" => 2f64.powi(60),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * scale)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn quantities_are_read_with_their_suffix() {
        for (quantity, expected) in [
            ("8", Some(8.0)),
            ("500m", Some(0.5)),
            ("1.5Gi", Some(1_610_612_736.0)),
            ("2k", Some(2000.0)),
            ("12e6", Some(12_000_000.0)),
            ("1E", Some(1e18)),
            ("1Xi", None),
            ("", None),
        ] {
            assert_eq!(parse(quantity), expected, "{quantity}");
        }
    }
}
