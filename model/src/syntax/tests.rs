use std::fmt::Write as _;

use expect_test::expect;
use proptest::prelude::*;

use super::*;

/// `value: problem | problem`, a line each; `-` where there is none.
fn table(check: fn(&str) -> Vec<String>, values: &[&str]) -> String {
    values.iter().fold(String::new(), |mut out, value| {
        let problems = check(value);
        let _ = writeln!(out, "{value:?}: {}", if problems.is_empty() { "-".to_owned() } else { problems.join(" | ") });
        out
    })
}

#[test]
fn labels_and_subdomains() {
    let long = "a".repeat(64);
    expect![[r#"
        "web": -
        "1-a": -
        "": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        "-a": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        "a-": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        "a.b": must not contain dots
        "ä": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 63 characters
    "#]].assert_eq(&table(dns1123_label, &["web", "1-a", "", "-a", "a-", "A", "a.b", "ä", &long]));
    expect![[r#"
        "web": -
        "1-a": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        "a.b": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        "": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
    "#]].assert_eq(&table(dns1035_label, &["web", "1-a", "a.b", ""]));
    let long = ["a"; 128].join(".");
    expect![[r#"
        "a.b": -
        "a..b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        ".a": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a": must be no more than 253 characters
    "#]].assert_eq(&table(dns1123_subdomain, &["a.b", "a..b", ".a", "a_b", &long]));
}

#[test]
fn qualified_names_and_label_values() {
    let long = "a".repeat(64);
    let names = ["a", "example.com/A_b.c", "/a", "a/", "a/b/c", "A/b", "", "-a", long.as_str()];
    expect![[r#"
        "a": -
        "example.com/A_b.c": -
        "/a": prefix part must be non-empty
        "a/": name part must be non-empty | name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        "A/b": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "": name part must be non-empty | name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "-a": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": name part must be no more than 63 characters
    "#]].assert_eq(&table(qualified_name, &names));
    expect![[r#"
        "": -
        "a_B.c": -
        "-a": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 63 characters
    "#]].assert_eq(&table(label_value, &["", "a_B.c", "-a", "a b", &long]));
}

#[test]
fn port_names() {
    let names = ["http", "1", "", "a--b", "-a", "a-", "HTTP", "a-name-that-is-long"];
    expect![[r#"
        "http": -
        "1": must contain at least one letter (a-z)
        "": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-) | must contain at least one letter (a-z)
        "a--b": must not contain consecutive hyphens
        "-a": must not begin or end with a hyphen
        "a-": must not begin or end with a hyphen
        "HTTP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-) | must contain at least one letter (a-z)
        "a-name-that-is-long": must be no more than 15 characters
    "#]].assert_eq(&table(port_name, &names));
}

#[test]
fn addresses() {
    let addresses = [
        "10.0.0.1",
        "010.0.0.1",
        "::ffff:1.2.3.4",
        "2001:DB8::1",
        "2001:db8::1",
        "1.2.3",
        "1.2.3.256",
        "fe80::1%eth0",
        "",
    ];
    expect![[r#"
        "10.0.0.1": -
        "010.0.0.1": -
        "::ffff:1.2.3.4": -
        "2001:DB8::1": -
        "2001:db8::1": -
        "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "1.2.3.256": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "fe80::1%eth0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
    "#]]
    .assert_eq(&table(valid_ip, &addresses));
    expect![[r#"
        "10.0.0.1": -
        "010.0.0.1": must not have leading 0s
        "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address
        "2001:DB8::1": must be in canonical form ("2001:db8::1")
        "2001:db8::1": -
        "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "1.2.3.256": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "fe80::1%eth0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        "": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
    "#]]
    .assert_eq(&table(canonical_ip_problems, &addresses));
    expect![[r#"
        "10.0.0.1": -
        "010.0.0.1": spec.x: non-standard IP address "010.0.0.1" will be considered invalid in a future Kubernetes release: use "10.0.0.1"
        "::ffff:1.2.3.4": spec.x: non-standard IP address "::ffff:1.2.3.4" will be considered invalid in a future Kubernetes release: use "1.2.3.4"
        "2001:DB8::1": spec.x: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")
        "2001:db8::1": -
        "1.2.3": -
        "1.2.3.256": -
        "fe80::1%eth0": -
        "": -
    "#]].assert_eq(&table(|ip| ip_warnings("spec.x", ip), &addresses));
}

#[test]
fn cidrs() {
    let cidrs = [
        "10.0.0.0/8",
        "10.0.0.1/8",
        "010.0.0.0/8",
        "10.0.0.0/08",
        "::ffff:1.2.3.0/120",
        "2001:DB8::/32",
        "2001:db8::/32",
        "::/0",
        "10.0.0.0/33",
        "10.0.0.0",
    ];
    expect![[r#"
        "10.0.0.0/8": -
        "10.0.0.1/8": -
        "010.0.0.0/8": -
        "10.0.0.0/08": -
        "::ffff:1.2.3.0/120": -
        "2001:DB8::/32": -
        "2001:db8::/32": -
        "::/0": -
        "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
    "#]]
    .assert_eq(&table(valid_cidr, &cidrs));
    expect![[r#"
        "10.0.0.0/8": -
        "10.0.0.1/8": must not have bits set beyond the prefix length
        "010.0.0.0/8": must not have leading 0s in IP
        "10.0.0.0/08": must not have leading 0s in prefix length
        "::ffff:1.2.3.0/120": must not have an IPv4-mapped IPv6 address
        "2001:DB8::/32": must be in canonical form ("2001:db8::/32")
        "2001:db8::/32": -
        "::/0": -
        "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
    "#]]
    .assert_eq(&table(canonical_cidr_problems, &cidrs));
    expect![[r#"
        "10.0.0.0/8": -
        "10.0.0.1/8": spec.x: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)
        "010.0.0.0/8": spec.x: non-standard CIDR value "010.0.0.0/8" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"
        "10.0.0.0/08": spec.x: non-standard CIDR value "10.0.0.0/08" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"
        "::ffff:1.2.3.0/120": spec.x: non-standard CIDR value "::ffff:1.2.3.0/120" will be considered invalid in a future Kubernetes release: use "1.2.3.0/24"
        "2001:DB8::/32": spec.x: IPv6 CIDR value "2001:DB8::/32" should be in RFC 5952 canonical format ("2001:db8::/32")
        "2001:db8::/32": -
        "::/0": -
        "10.0.0.0/33": -
        "10.0.0.0": -
    "#]].assert_eq(&table(|cidr| cidr_warnings("spec.x", cidr), &cidrs));
}

proptest! {
    #[test]
    fn every_address_reads_itself(bits: u128, four: u32) {
        for address in [std::net::IpAddr::from(std::net::Ipv4Addr::from(four)), std::net::Ipv6Addr::from(bits).into()] {
            prop_assert_eq!(parse_ip(&address.to_string()), Some(address.to_canonical()));
        }
    }

    #[test]
    fn leading_zeros_are_decimal(octets: [u8; 4], zeros in 0..4usize) {
        let padded = octets.map(|octet| format!("{}{octet}", "0".repeat(zeros))).join(".");
        prop_assert_eq!(parse_ip(&padded), Some(octets.into()));
    }

    #[test]
    fn nothing_panics(text: String) {
        let _ = (dns1123_label(&text), qualified_name(&text), port_name(&text));
        let _ = (canonical_ip_problems(&text), canonical_cidr_problems(&text), cidr_warnings("x", &text));
    }
}
