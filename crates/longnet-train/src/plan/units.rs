//! Bytes and FLOPs as people write them.

/// What is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

/// "80GB", "24G" (powers of 1000), "16GiB" (powers of 1024) or plain bytes.
///
/// # Errors
///
/// Anything else, and amounts that are not above 0.
pub fn parse_bytes(text: &str) -> Result<f64, UnitError> {
    let expected = "an amount of memory such as 80GB, 24GiB or 512M";
    let units = [
        ("kib", 1024.0),
        ("mib", 1024f64.powi(2)),
        ("gib", 1024f64.powi(3)),
        ("tib", 1024f64.powi(4)),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("tb", 1e12),
        ("k", 1e3),
        ("m", 1e6),
        ("g", 1e9),
        ("t", 1e12),
        ("b", 1.0),
        ("", 1.0),
    ];
    parse(text, &units, expected)
}

/// "400T" or "400TFLOPS", "1.5P", "60G": FLOPs a second.
///
/// # Errors
///
/// Anything else, and rates that are not above 0.
pub fn parse_flops(text: &str) -> Result<f64, UnitError> {
    let expected = "FLOPs a second, such as 400T, 1.5P or 60G";
    let lower = text.trim().to_lowercase();
    let bare = ["flop/s", "flops", "flop"]
        .iter()
        .find_map(|end| lower.strip_suffix(end))
        .unwrap_or(&lower);
    let units = [
        ("k", 1e3),
        ("m", 1e6),
        ("g", 1e9),
        ("t", 1e12),
        ("p", 1e15),
        ("e", 1e18),
        ("", 1.0),
    ];
    parse(bare, &units, expected).map_err(|error| UnitError {
        text: text.into(),
        ..error
    })
}

fn parse(text: &str, units: &[(&str, f64)], expected: &'static str) -> Result<f64, UnitError> {
    let error = || UnitError {
        text: text.into(),
        expected,
    };
    let lower = text.trim().to_lowercase();
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, factor)))
        .ok_or_else(error)?;
    // Not what Rust also takes for numbers: "inf", "nan".
    let digits = |c: char| c.is_ascii_digit() || c == '.' || c == 'e' || c == '-' || c == '+';
    let number = number.trim();
    let value: f64 = match number.chars().all(digits) {
        true => number.parse().map_err(|_| error())?,
        false => return Err(error()),
    };
    let amount = value * factor;
    match amount > 0.0 && amount.is_finite() {
        true => Ok(amount),
        false => Err(error()),
    }
}

/// 1234567890 as "1.23 GB".
pub fn bytes(bytes: f64) -> String {
    let text = crate::estimate::si(bytes);
    match text.contains(' ') {
        true => text + "B",
        false => text + " B",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        for (text, expected) in [
            ("80GB", 80e9),
            ("24G", 24e9),
            ("1.5GiB", 1.5 * (1u64 << 30) as f64),
            ("512 m", 512e6),
            ("4096", 4096.0),
            ("4096B", 4096.0),
            ("2tb", 2e12),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in [
            "", "GB", "80XB", "-1G", "0", "nan", "inf", "infGB", "1e400", "8 0 G",
        ] {
            let error = parse_bytes(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}' is not")), "{error}");
        }
        for (text, expected) in [
            ("400T", 4e14),
            ("989 TFLOPS", 9.89e14),
            ("1.5P", 1.5e15),
            ("60G", 6e10),
        ] {
            assert_eq!(parse_flops(text), Ok(expected), "{text}");
        }
        assert!(parse_flops("fast").is_err());
        assert_eq!(bytes(1_234_567_890.0), "1.23 GB");
        assert_eq!(bytes(12.0), "12 B");
    }
}
