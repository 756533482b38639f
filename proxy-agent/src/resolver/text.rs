//! The files that are written, and how they are known again.

use std::net::SocketAddr;

use super::Wanted;

/// The first line of each.
const MARK: &str = "# Written by Portolan (--configure-resolver); `portolan agent --cleanup` takes it back.";
const SUM: &str = "# sum ";

/// Whose a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    Others,
    Us,
    /// Us, and somebody after us.
    Edited,
}

pub(super) fn author(text: &str) -> Author {
    let Some(rest) = text.strip_prefix(MARK).and_then(|rest| rest.strip_prefix('\n')) else { return Author::Others };
    let said = rest.split_once('\n').and_then(|(line, body)| Some((line.strip_prefix(SUM)?, body)));
    match said {
        Some((said, body)) if said == sum(body) => Author::Us,
        _ => Author::Edited,
    }
}

fn signed(body: &str) -> String {
    format!("{MARK}\n{SUM}{}\n{body}", sum(body))
}

/// FNV-1a: it is to see edits, not to withstand anybody.
fn sum(body: &str) -> String {
    let hash = body
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

/// systemd.dns-delegate(5).
pub(super) fn delegate(wanted: &Wanted) -> String {
    signed(&format!("[Delegate]\n{}DefaultRoute=no\n", lines(wanted)))
}

/// resolved.conf(5).
pub(super) fn drop_in(wanted: &Wanted) -> String {
    signed(&format!("[Resolve]\n{}", lines(wanted)))
}

fn lines(wanted: &Wanted) -> String {
    let servers: Vec<String> = wanted.servers.iter().map(server).collect();
    let routed =
        wanted.domains.iter().filter(|domain| !wanted.search.contains(domain)).map(|domain| format!("~{domain}"));
    let domains: Vec<String> = wanted.search.iter().cloned().chain(routed).collect();
    format!("DNS={}\nDomains={}\n", servers.join(" "), domains.join(" "))
}

/// With a port only where it is another: systemd before 246 knows none.
fn server(server: &SocketAddr) -> String {
    if server.port() == 53 { server.ip().to_string() } else { server.to_string() }
}

/// resolv.conf(5): this DNS, then what was there. glibc uses three servers, so the last of three goes.
pub(super) fn resolv_conf(wanted: &Wanted, former: &str) -> String {
    let mut body = String::new();
    let own: Vec<String> = wanted.servers.iter().filter(|s| s.port() == 53).map(|s| s.ip().to_string()).collect();
    // One is enough: whichever family it is of, it is this machine.
    for ip in own.iter().take(1) {
        body.push_str(&format!("nameserver {ip}\n"));
    }
    let mut search = wanted.search.clone();
    let mut found = Vec::new();
    for line in former.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") if words.next().is_some_and(|ip| own.iter().any(|own| own == ip)) => {}
            // The last of these lines is the one that counts.
            Some("search" | "domain") if !wanted.search.is_empty() => found = words.map(str::to_owned).collect(),
            _ => {
                body.push_str(line);
                body.push('\n');
            }
        }
    }
    search.extend(found);
    if !search.is_empty() {
        body.push_str(&format!("search {}\n", search.join(" ")));
    }
    signed(&body)
}
