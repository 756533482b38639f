//! Quantities: `2`, `500m`, `1.5`, `4Gi`, `2e3`.

/// More than any machine has, and small enough that sums of it do not overflow.
const MILLI_MAX: f64 = (1u64 << 40) as f64;

/// A quantity in thousandths, rounded up as Kubernetes does. None for what is no quantity, 0 for a negative one; what is
/// absurdly large is cut.
pub fn quantity_milli(text: &str) -> Option<u64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (decimal, binary) = match suffix {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 1),
        "Mi" => (0, 2),
        "Gi" => (0, 3),
        "Ti" => (0, 4),
        "Pi" => (0, 5),
        "Ei" => (0, 6),
        exponent => (exponent.strip_prefix(['e', 'E'])?.parse::<i16>().ok()?.into(), 0),
    };
    // The decimal exponent goes into the text, so that 0.1 and 100m are the same number.
    let milli: f64 = format!("{number}e{}", decimal + 3).parse().ok()?;
    let milli = (milli * 1024f64.powi(binary)).ceil().min(MILLI_MAX);
    Some(if text.starts_with('-') { 0 } else { milli as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_thousandths() {
        let cases = [
            ("2", 2000),
            ("500m", 500),
            ("1.5", 1500),
            ("0.1", 100),
            ("100u", 1),
            ("1n", 1),
            ("+3", 3000),
            ("-3", 0),
            ("2e1", 20_000),
            ("2E-1", 200),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            (".5", 500),
            ("5.", 5000),
            ("0", 0),
            ("1e300", 1 << 40),
            ("1Ei", 1 << 40),
        ];
        for (text, milli) in cases {
            assert_eq!(quantity_milli(text), Some(milli), "{text}");
        }
        for text in ["", "m", "two", "1.2.3", "1 ", "1e", "1ex", "1kk", "e3", "1e99999", "inf", "NaN"] {
            assert_eq!(quantity_milli(text), None, "{text}");
        }
    }
}
