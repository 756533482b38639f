//! The values without inner structure: numbers, strings, and the strings with a grammar of their own.

use serde_json::Value;

use super::Shape;

const TIME_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_TIME_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
const QUANTITY_GRAMMAR: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Why a scalar does not fit.
pub(super) enum Wrong {
    /// It has another JSON type; the caller knows the field.
    Type,
    /// Its own decoder refuses it, with this text, which names no field.
    Text(String),
}

/// Whether a value other than `null` fits a shape other than Struct, Map and List.
pub(super) fn check(shape: &Shape, value: &Value) -> Result<(), Wrong> {
    let fits = match shape {
        Shape::String => value.is_string(),
        Shape::Bool => value.is_boolean(),
        Shape::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Shape::Int64 => value.as_i64().is_some(),
        Shape::IntOrString => return int_or_string(value),
        Shape::Quantity => return quantity(value),
        Shape::Time => return time(value, TIME_LAYOUT),
        Shape::MicroTime => return time(value, MICRO_TIME_LAYOUT),
        Shape::Free => true,
        Shape::Struct(_) | Shape::Map(_) | Shape::List(..) => false,
    };
    if fits { Ok(()) } else { Err(Wrong::Type) }
}

/// How Go's decoder names a JSON value in its messages.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn int_or_string(value: &Value) -> Result<(), Wrong> {
    if value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) {
        return Ok(());
    }
    let what = if let Value::Number(number) = value { format!("number {number}") } else { json_kind(value).to_owned() };
    Err(Wrong::Text(format!("json: cannot unmarshal {what} into Go value of type int32")))
}

fn quantity(value: &Value) -> Result<(), Wrong> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(Wrong::Text(QUANTITY_GRAMMAR.to_owned())),
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(number_end);
    if !number.bytes().any(|b| b.is_ascii_digit()) {
        return Err(Wrong::Text(QUANTITY_GRAMMAR.to_owned()));
    }
    if number.matches('.').count() > 1 {
        return Err(Wrong::Text("unable to parse numeric part of quantity".to_owned()));
    }
    let exponent = |text: &str| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let known = matches!(
        suffix,
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei"
    ) || suffix.strip_prefix(['e', 'E']).is_some_and(exponent);
    let in_grammar =
        suffix.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-') || b"eEinumkKMGTP".contains(&b));
    match (known, in_grammar) {
        (true, _) => Ok(()),
        (false, true) => Err(Wrong::Text("unable to parse quantity's suffix".to_owned())),
        (false, false) => Err(Wrong::Text(QUANTITY_GRAMMAR.to_owned())),
    }
}

/// Go's `time.Parse` names the rest that it could not read and the piece of its layout that it was at.
fn time(value: &Value, layout: &str) -> Result<(), Wrong> {
    let Value::String(text) = value else {
        return Err(Wrong::Text(format!("json: cannot unmarshal {} into Go value of type string", json_kind(value))));
    };
    let stuck = |rest: &str, piece: &str| {
        Err(Wrong::Text(format!("parsing time \"{text}\" as \"{layout}\": cannot parse \"{rest}\" as \"{piece}\"")))
    };
    let mut rest = text.as_str();
    let mut pieces = vec!["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05"];
    if layout == MICRO_TIME_LAYOUT {
        pieces.push(".000000");
    }
    for piece in pieces {
        let fits = rest.get(..piece.len()).is_some_and(|head| {
            head.bytes().zip(piece.bytes()).all(|(b, p)| if p.is_ascii_digit() { b.is_ascii_digit() } else { b == p })
        });
        if !fits {
            return stuck(rest, piece);
        }
        rest = rest.get(piece.len()..).unwrap_or_default();
    }
    if layout == TIME_LAYOUT
        && let Some(fraction) = rest.strip_prefix(['.', ','])
    {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return stuck(rest, "Z07:00");
        }
        rest = fraction.get(digits..).unwrap_or_default();
    }
    if !is_zone(rest) {
        return stuck(rest, "Z07:00");
    }
    match out_of_range(text) {
        None => Ok(()),
        Some(unit) => Err(Wrong::Text(format!("parsing time \"{text}\": {unit} out of range"))),
    }
}

/// The shape is right; which part does the calendar not have? The zone is not looked at, as in Go.
fn out_of_range(text: &str) -> Option<&'static str> {
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<i16>().ok());
    let small = |range| part(range).and_then(|number| i8::try_from(number).ok()).unwrap_or(-1);
    let (month, day) = (small(5..7), small(8..10));
    let (hour, minute, second) = (small(11..13), small(14..16), small(17..19));
    if !(1..=12).contains(&month) {
        return Some("month");
    }
    if jiff::civil::Date::new(part(0..4).unwrap_or(0), month, day).is_err() {
        return Some("day");
    }
    [("hour", hour, 23), ("minute", minute, 59), ("second", second, 59)]
        .into_iter()
        .find(|(_, value, max)| !(0..=*max).contains(value))
        .map(|(unit, ..)| unit)
}

fn is_zone(text: &str) -> bool {
    text == "Z"
        || (text.len() == 6
            && text.bytes().zip(*b"+00:00").all(|(b, p)| match p {
                b'+' => b == b'+' || b == b'-',
                b':' => b == b':',
                _ => b.is_ascii_digit(),
            }))
}
