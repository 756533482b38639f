//! A rule as `iptables-save` prints it, which is also what `iptables-restore` reads.
//!
//! Exactly so, to the last digit: what a kernel has can then be compared as text. Both variants print the same. Addresses,
//! interface and protocol come first whatever the order of the matches, because that is where they stand in a rule.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use ipnet::IpNet;
use model::types::Protocol;

use super::rule::{Direction, Mark, Match, Rule, States, Target};
use crate::plan::Family;

/// What a probability of 1 is in the kernel.
pub(super) const CERTAIN: u32 = 0x8000_0000;
/// A longer comment is cut: the kernel takes 255 bytes.
const MAX_COMMENT: usize = 200;

/// Appends the rule without the name of its chain, ended by a newline.
pub fn add(rule: &Rule, family: Family, to: &mut String) {
    let start = to.len();
    // Writing to a String does not fail.
    let _ = write(rule, family, to);
    // Every part begins with a space.
    if to.len() > start {
        to.remove(start);
    }
    to.push('\n');
}

/// The rule without the name of its chain.
pub fn line(rule: &Rule, family: Family) -> String {
    let mut text = String::new();
    add(rule, family, &mut text);
    text.pop();
    text
}

fn write(rule: &Rule, family: Family, to: &mut String) -> fmt::Result {
    for m in &rule.matches {
        if let Match::Source { range, not } = m
            && (*not || !everything(range))
        {
            write!(to, "{} -s {range}", negated(*not))?;
        }
    }
    for m in &rule.matches {
        if let Match::Destination { range, not } = m
            && (*not || !everything(range))
        {
            write!(to, "{} -d {range}", negated(*not))?;
        }
    }
    for m in &rule.matches {
        match m {
            Match::Loopback { not } => write!(to, "{} -i lo", negated(*not))?,
            Match::Protocol(protocol) => write!(to, " -p {}", name(*protocol))?,
            Match::EchoRequest if family == Family::V4 => to.push_str(" -p icmp"),
            Match::EchoRequest => to.push_str(" -p ipv6-icmp"),
            _ => {}
        }
    }
    let protocol = rule.matches.iter().find_map(|m| match m {
        Match::Protocol(protocol) => Some(*protocol),
        _ => None,
    });
    for m in &rule.matches {
        one(m, protocol.unwrap_or_default(), family, to)?;
    }
    if !rule.comment.is_empty() {
        to.push_str(" -m comment --comment ");
        comment(&rule.comment, to);
    }
    target(&rule.target, family, to)
}

fn one(m: &Match, protocol: Protocol, family: Family, to: &mut String) -> fmt::Result {
    match m {
        Match::Source { .. } | Match::Destination { .. } | Match::Loopback { .. } | Match::Protocol(_) => Ok(()),
        Match::EchoRequest => to.write_str(match family {
            Family::V4 => " -m icmp --icmp-type 8",
            Family::V6 => " -m icmp6 --icmpv6-type 128",
        }),
        Match::DestinationPort(ports) if ports.start() == ports.end() => {
            write!(to, " -m {} --dport {}", name(protocol), ports.start())
        }
        Match::DestinationPort(ports) => {
            write!(to, " -m {} --dport {}:{}", name(protocol), ports.start(), ports.end())
        }
        Match::SourcePort(port) => write!(to, " -m {} --sport {port}", name(protocol)),
        Match::DestinationLocal => to.write_str(" -m addrtype --dst-type LOCAL"),
        Match::SourceLocal { not } => write!(to, " -m addrtype{} --src-type LOCAL", negated(*not)),
        Match::State { states: wanted, not } => {
            write!(to, " -m conntrack{} --ctstate {}", negated(*not), states(*wanted))
        }
        Match::Reply => to.write_str(" -m conntrack --ctdir REPLY"),
        Match::AskedFor(range) => write!(to, " -m conntrack --ctorigdst {}", bare(*range)),
        Match::Mark { mark: value, not } => write!(to, " -m mark{} --mark {}", negated(*not), mark(*value)),
        Match::ConnectionMark { mark: value, not } => {
            write!(to, " -m connmark{} --mark {}", negated(*not), mark(*value))
        }
        Match::SourceMac([a, b, c, d, e, f]) => {
            write!(to, " -m mac --mac-source {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
        }
        Match::Chance { of, share } => {
            let part = f64::from(likelihood(*share, *of)) / f64::from(CERTAIN);
            write!(to, " -m statistic --mode random --probability {part:.11}")
        }
        Match::Turn { every, packet } => write!(to, " -m statistic --mode nth --every {every} --packet {packet}"),
        Match::Remembered { list, seconds } => {
            write!(to, " -m recent --rcheck --seconds {seconds} --reap --name {list} --mask {} --rsource", mask(family))
        }
        Match::Remember { list } => write!(to, " -m recent --set --name {list} --mask {} --rsource", mask(family)),
        Match::InSet { set, by, not } => {
            write!(to, " -m set{} --match-set {set}", negated(*not))?;
            for (number, direction) in by.iter().enumerate() {
                to.push(if number == 0 { ' ' } else { ',' });
                to.push_str(match direction {
                    Direction::Source => "src",
                    Direction::Destination => "dst",
                });
            }
            Ok(())
        }
    }
}

fn target(target: &Target, family: Family, to: &mut String) -> fmt::Result {
    match target {
        Target::Jump(chain) => write!(to, " -j {chain}"),
        Target::Goto(chain) => write!(to, " -g {chain}"),
        Target::Return => to.write_str(" -j RETURN"),
        Target::Accept => to.write_str(" -j ACCEPT"),
        Target::Drop => to.write_str(" -j DROP"),
        Target::RejectTcp => to.write_str(" -j REJECT --reject-with tcp-reset"),
        Target::RejectPort if family == Family::V4 => to.write_str(" -j REJECT --reject-with icmp-port-unreachable"),
        Target::RejectPort => to.write_str(" -j REJECT --reject-with icmp6-port-unreachable"),
        Target::Dnat(SocketAddr::V4(at)) => write!(to, " -j DNAT --to-destination {at}"),
        Target::Dnat(SocketAddr::V6(at)) => write!(to, " -j DNAT --to-destination [{}]:{}", at.ip(), at.port()),
        Target::Masquerade => to.write_str(" -j MASQUERADE --random-fully"),
        Target::Redirect => to.write_str(" -j REDIRECT"),
        Target::SetMark(mark) => write!(to, " -j MARK --set-xmark 0x{:x}/0x{:x}", mark.value, mark.mask),
        Target::SetConnectionMark(mark) => write!(to, " -j CONNMARK --set-xmark 0x{:x}/0x{:x}", mark.value, mark.mask),
        Target::RestoreMark { mask } => {
            write!(to, " -j CONNMARK --restore-mark --nfmask 0x{mask:x} --ctmask 0x{mask:x}")
        }
        Target::Untrack => to.write_str(" -j CT --notrack"),
        Target::Nothing => Ok(()),
    }
}

fn negated(not: bool) -> &'static str {
    if not { " !" } else { "" }
}

/// As in `-p` and `-m`.
pub(super) fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn states(states: States) -> String {
    let names =
        [(states.new, "NEW"), (states.related, "RELATED"), (states.established, "ESTABLISHED"), (states.dnat, "DNAT")];
    names.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn mark(mark: Mark) -> String {
    if mark.mask == u32::MAX { format!("0x{:x}", mark.value) } else { format!("0x{:x}/0x{:x}", mark.value, mark.mask) }
}

/// A range without the length of its prefix where it is one address.
fn bare(range: IpNet) -> String {
    if range.prefix_len() == range.max_prefix_len() { range.addr().to_string() } else { range.to_string() }
}

fn mask(family: Family) -> &'static str {
    match family {
        Family::V4 => "255.255.255.255",
        Family::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    }
}

/// So many of so many as the kernel keeps it: rounded to the nearest part of 2^31.
pub fn likelihood(share: u32, of: u32) -> u32 {
    let of = u64::from(of.max(1));
    let part = (u64::from(share) * u64::from(CERTAIN) + of / 2) / of;
    u32::try_from(part).unwrap_or(CERTAIN).min(CERTAIN)
}

/// Only what needs no escape inside of quotes, and no more than fits.
fn comment(text: &str, to: &mut String) {
    let safe = |c: char| if c.is_ascii_alphanumeric() || " /:._-,()".contains(c) { c } else { '_' };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let text: String = text.chars().take(MAX_COMMENT).map(safe).collect();
    let quote = if text.chars().all(plain) { "" } else { "\"" };
    to.push_str(quote);
    to.push_str(&text);
    to.push_str(quote);
}

/// What every address is in is not said.
fn everything(range: &IpNet) -> bool {
    range.prefix_len() == 0
}
