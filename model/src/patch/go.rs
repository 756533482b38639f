//! Values as Go's `%v` prints them, because that is how messages about patches name an item.

use std::fmt;

use serde_json::Value;

/// A value that prints as a Go map, slice or scalar: `map[name:web ports:[map[port:80]]]`.
pub(super) struct Go<'a>(pub &'a Value);

/// A list that prints as [`Go`] prints an array.
pub(super) struct GoList<'a>(pub &'a [Value]);

impl fmt::Display for Go<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::Bool(flag) => write!(f, "{flag}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::String(text) => f.write_str(text),
            Value::Array(items) => GoList(items).fmt(f),
            Value::Object(object) => {
                // Go prints maps in the order of their keys, and so are they held here.
                f.write_str("map[")?;
                for (at, (name, value)) in object.iter().enumerate() {
                    let space = if at == 0 { "" } else { " " };
                    write!(f, "{space}{name}:{}", Go(value))?;
                }
                f.write_str("]")
            }
        }
    }
}

impl fmt::Display for GoList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, item) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{}", Go(item))?;
        }
        f.write_str("]")
    }
}
