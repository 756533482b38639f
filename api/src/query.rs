//! The query string, decoded once.
//!
//! Parameters nobody asks for are ignored, as Kubernetes ignores them (`timeout=32s`, `profile=nopeer`).

/// Decoded parameters in the order they were sent.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`. Broken escapes are kept as they are written, as browsers do.
    pub fn parse(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter; an empty value counts as present.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first value of a parameter that is not empty: for Kubernetes an empty `labelSelector=` is no selector.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// Every value of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A boolean as apimachinery converts one: absent, `false` and `0` are false, all else (also empty) is true.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| !v.eq_ignore_ascii_case("false") && v != "0")
    }
}

/// Percent-decoding of `application/x-www-form-urlencoded`.
pub fn decode(text: &str) -> String {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let escape = || {
            let high = char::from(*bytes.get(i + 1)?).to_digit(16)?;
            let low = char::from(*bytes.get(i + 2)?).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        };
        match byte {
            b'+' => out.push(b' '),
            b'%' => match escape() {
                Some(decoded) => {
                    out.push(decoded);
                    i += 2;
                }
                None => out.push(b'%'),
            },
            other => out.push(other),
        }
        i += 1;
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_kubectl_sends() {
        let query = Query::parse(Some("fieldSelector=x%3Dy%2Ca%21%3Db&labelSelector=a+in+%28b%29&limit=500&watch"));
        assert_eq!(query.get("fieldSelector"), Some("x=y,a!=b"));
        assert_eq!(query.get("labelSelector"), Some("a in (b)"));
        assert!(query.flag("watch"));
        assert!(!query.flag("allowWatchBookmarks"));
    }

    #[test]
    fn broken_escapes_stand_for_themselves() {
        let query = Query::parse(Some("a=%&b=%2&c=%zz&d=%ff&=x&&e=1=2"));
        assert_eq!(query.get("a"), Some("%"));
        assert_eq!(query.get("b"), Some("%2"));
        assert_eq!(query.get("c"), Some("%zz"));
        assert_eq!(query.get("d"), Some("\u{fffd}"));
        assert_eq!(query.get("e"), Some("1=2"));
    }

    #[test]
    fn flags_are_read_as_apimachinery_reads_them() {
        for (text, expected) in
            [("w=1", true), ("w=true", true), ("w=", true), ("w=0", false), ("w=False", false), ("", false)]
        {
            assert_eq!(Query::parse(Some(text)).flag("w"), expected, "{text}");
        }
    }
}
