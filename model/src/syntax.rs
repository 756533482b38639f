//! The small grammars that names, keys and addresses follow: DNS labels, qualified names, label values, port
//! names, IP addresses and CIDRs.
//!
//! Each check returns the texts of what is wrong, none when the value is right; the caller puts them under a
//! field path. Texts and order are those of apimachinery `pkg/util/validation`, because clients' tests and
//! people's search engines know them. The grammars are walked by hand: they are regular and short, and a
//! regular-expression engine would be the larger part of this crate.

mod address;
mod quantity;
#[cfg(test)]
mod tests;

pub use address::{
    Cidr, canonical_cidr_problems, canonical_ip_problems, cidr_warnings, ip_warnings, parse_cidr, parse_ip, valid_cidr,
    valid_ip,
};
pub use quantity::quantity_milli;

const DNS_LABEL_MAX: usize = 63;
const DNS_SUBDOMAIN_MAX: usize = 253;
const QUALIFIED_NAME_MAX: usize = 63;
const LABEL_VALUE_MAX: usize = 63;
const PORT_NAME_MAX: usize = 15;

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// `must be no more than 63 characters`.
pub fn max_length(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// `must be between 1 and 65535, inclusive`.
pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// Problems of a name that is to be one segment of a path, and may have any form besides.
pub fn path_segment(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    ['/', '%'].into_iter().filter(|c| name.contains(*c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// A lower-case RFC 1123 label: `my-name`, `123-abc`; at most 63 bytes.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        problems.push(max_length(DNS_LABEL_MAX));
    }
    if !is_dns_label(value) {
        problems.push(if is_dns_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            pattern(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                DNS_LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    problems
}

/// A lower-case RFC 1123 subdomain: labels joined by dots, at most 253 bytes.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        problems.push(max_length(DNS_SUBDOMAIN_MAX));
    }
    if !is_dns_subdomain(value) {
        problems.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            &format!("{DNS_LABEL}(\\.{DNS_LABEL})*"),
            &["example.com"],
        ));
    }
    problems
}

/// A DNS-1035 label: as [`dns1123_label`], but it starts with a letter. Service names are these.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        problems.push(max_length(DNS_LABEL_MAX));
    }
    if !(is_dns_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase())) {
        problems.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    problems
}

/// A name with an optional DNS prefix: `MyName`, `example.com/my.name`. Label keys and annotation keys are these.
pub fn qualified_name(value: &str) -> Vec<String> {
    const TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut problems = Vec::new();
    let mut parts = value.split('/');
    let name = match (parts.next().unwrap_or(""), parts.next(), parts.next()) {
        (name, None, _) => name,
        (prefix, Some(name), None) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(dns1123_subdomain(prefix).into_iter().map(|p| format!("prefix part {p}")));
            }
            name
        }
        (_, Some(_), Some(_)) => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                pattern(TEXT, QUALIFIED_NAME, &EXAMPLES)
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > QUALIFIED_NAME_MAX {
        problems.push(format!("name part {}", max_length(QUALIFIED_NAME_MAX)));
    }
    if !is_name_part(name) {
        problems.push(format!("name part {}", pattern(TEXT, QUALIFIED_NAME, &EXAMPLES)));
    }
    problems
}

/// A label's value: empty, or like the name part of a qualified name; at most 63 bytes.
pub fn label_value(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > LABEL_VALUE_MAX {
        problems.push(max_length(LABEL_VALUE_MAX));
    }
    if !value.is_empty() && !is_name_part(value) {
        problems.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            &format!("({QUALIFIED_NAME})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    problems
}

/// A port name as IANA has service names: at most 15 characters, with at least one letter.
pub fn port_name(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > PORT_NAME_MAX {
        problems.push(max_length(PORT_NAME_MAX));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// A port number: 1 to 65535.
pub fn port_number(value: i64) -> Vec<String> {
    if (1..=65535).contains(&value) { Vec::new() } else { vec![inclusive_range(1, 65535)] }
}

fn is_dns_label(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match (value.as_bytes().first(), value.as_bytes().last()) {
        (Some(&first), Some(&last)) => inner(first) && inner(last) && value.bytes().all(|b| inner(b) || b == b'-'),
        _ => false,
    }
}

fn is_dns_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns_label)
}

fn is_name_part(value: &str) -> bool {
    match (value.as_bytes().first(), value.as_bytes().last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

/// The doubled space before `or` is Kubernetes' own: each example is followed by a comma and a space.
fn pattern(text: &str, regex: &str, examples: &[&str]) -> String {
    let examples = examples.iter().map(|e| format!("'{e}', ")).collect::<Vec<_>>().join(" or ");
    format!("{text} (e.g. {examples}regex used for validation is '{regex}')")
}
