//! What `iptables-save` printed, as the data that it was written from.
//!
//! Only what is Portolan's is read: its chains, whatever they hold, and the rules of built-in chains that lead into one of them.
//! A rule that no Portolan writes is none of ours even in a chain of ours; it is kept as text, so that a comparison finds it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use model::types::Protocol;

use super::PREFIX;
use super::rule::{Direction, Hook, Mark, Match, Rule, States, Table, Target};
use super::text::CERTAIN;
use crate::plan::Family;

/// Chains with their rules, built-in ones among them by their names (`PREROUTING`), of tables of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub tables: BTreeMap<(Family, Table), BTreeMap<String, Vec<Rule>>>,
}

impl Ruleset {
    /// The rules of a chain; `None`: there is none of that name.
    pub fn chain(&self, family: Family, table: Table, name: &str) -> Option<&[Rule]> {
        self.tables.get(&(family, table))?.get(name).map(Vec::as_slice)
    }
}

/// A table's chains as `iptables-save` prints them: lines without `-A` and the name, each ended by a newline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Chains of ours.
    pub chains: BTreeMap<String, String>,
    /// The rules of built-in chains that lead into chains of ours, with the chain's name, in order.
    pub jumps: Vec<(String, String)>,
    /// Chains that say what settings were ([`super::settings`]). They are no part of the rules.
    pub marks: Vec<String>,
    /// Of all that are not ours.
    pub others: usize,
}

/// A rule that this program cannot have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a rule that Portolan writes: {0}")]
pub struct Unreadable(pub String);

/// Every table that `iptables-save` printed.
pub fn saved(text: &str) -> BTreeMap<Table, Found> {
    let mut tables: BTreeMap<Table, Found> = BTreeMap::new();
    let mut table = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Table::ALL.into_iter().find(|t| t.name() == name);
            if let Some(table) = table {
                tables.entry(table).or_default();
            }
        }
        let Some(found) = table.and_then(|table| tables.get_mut(&table)) else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().unwrap_or_default();
            if name.starts_with(super::settings::MARKS) {
                found.marks.push(name.to_owned());
            } else if name.starts_with(PREFIX) {
                found.chains.entry(name.to_owned()).or_default();
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
            if chain.starts_with(PREFIX) {
                let lines = found.chains.entry(chain.to_owned()).or_default();
                lines.push_str(rule);
                lines.push('\n');
            } else if leads_to_ours(rule) {
                found.jumps.push((chain.to_owned(), rule.to_owned()));
            } else {
                found.others += 1;
            }
        }
    }
    tables
}

/// Whether a rule's target is a chain of ours.
fn leads_to_ours(rule: &str) -> bool {
    [" -j ", " -g "].iter().any(|flag| {
        let at = if rule.starts_with(flag.trim_start()) { Some(0) } else { rule.rfind(flag).map(|at| at + 1) };
        at.and_then(|at| rule.get(at + 3..)).is_some_and(|target| target.starts_with(PREFIX))
    })
}

/// The rules of a family's tables.
///
/// # Errors
/// With the first rule that is not one of ours.
pub fn rules(family: Family, tables: &BTreeMap<Table, Found>, into: &mut Ruleset) -> Result<(), Unreadable> {
    for (table, found) in tables {
        let chains = into.tables.entry((family, *table)).or_default();
        for (name, lines) in &found.chains {
            let rules = lines.lines().map(|line| rule(line, family)).collect::<Result<_, _>>()?;
            chains.insert(name.clone(), rules);
        }
        for (name, line) in &found.jumps {
            chains.entry(name.clone()).or_default().push(rule(line, family)?);
        }
    }
    Ok(())
}

/// Reads a rule without the name of its chain.
///
/// # Errors
/// When it says what no rule of ours does.
pub fn rule(line: &str, family: Family) -> Result<Rule, Unreadable> {
    let words = words(line);
    let mut reader = Reader { words: &words, at: 0, family, not: false, module: "" };
    let mut rule = Rule::new([], Target::Nothing);
    while let Some(word) = reader.next() {
        reader.part(word, &mut rule).ok_or_else(|| Unreadable(line.to_owned()))?;
    }
    Ok(rule)
}

/// Words as a shell would read them, without anything but double quotes.
fn words(line: &str) -> Vec<Cow<'_, str>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut word = String::new();
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => word.extend(chars.next().map(|(_, c)| c)),
                    c => word.push(c),
                }
            }
            words.push(Cow::Owned(word));
            rest = quoted[end..].trim_start();
        } else {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            words.push(Cow::Borrowed(word));
            rest = after.trim_start();
        }
    }
    words
}

struct Reader<'a> {
    words: &'a [Cow<'a, str>],
    at: usize,
    family: Family,
    /// A `!` was just before.
    not: bool,
    /// The last `-m`.
    module: &'a str,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, word: &str) -> bool {
        let fits = self.words.get(self.at).is_some_and(|w| w == word);
        self.at += usize::from(fits);
        fits
    }

    fn number(&mut self) -> Option<u32> {
        number(self.next()?)
    }

    fn part(&mut self, word: &'a str, rule: &mut Rule) -> Option<()> {
        if word == "!" {
            self.not = true;
            return Some(());
        }
        let not = std::mem::take(&mut self.not);
        let m = match word {
            "-m" => {
                self.module = self.next()?;
                return Some(());
            }
            "-j" | "-g" => {
                rule.target = self.target(word == "-g")?;
                return Some(());
            }
            "--comment" => {
                rule.comment = Cow::Owned(self.next()?.to_owned());
                return Some(());
            }
            "-s" => Match::Source { range: range(self.next()?)?, not },
            "-d" => Match::Destination { range: range(self.next()?)?, not },
            "-i" if self.take("lo") => Match::Loopback { not },
            "-p" => match self.next()? {
                "tcp" => Match::Protocol(Protocol::Tcp),
                "udp" => Match::Protocol(Protocol::Udp),
                "sctp" => Match::Protocol(Protocol::Sctp),
                // With the type that follows.
                "icmp" | "ipv6-icmp" => return Some(()),
                _ => return None,
            },
            "--icmp-type" if self.take("8") => Match::EchoRequest,
            "--icmpv6-type" if self.take("128") => Match::EchoRequest,
            "--dport" if !not => Match::DestinationPort(ports(self.next()?)?),
            "--sport" if !not => Match::SourcePort(self.next()?.parse().ok()?),
            "--dst-type" if !not && self.take("LOCAL") => Match::DestinationLocal,
            "--src-type" if self.take("LOCAL") => Match::SourceLocal { not },
            "--ctstate" => Match::State { states: states(self.next()?)?, not },
            "--ctdir" if !not && self.take("REPLY") => Match::Reply,
            "--ctorigdst" if !not => Match::AskedFor(range(self.next()?)?),
            "--mark" if self.module == "mark" => Match::Mark { mark: mark(self.next()?)?, not },
            "--mark" if self.module == "connmark" => Match::ConnectionMark { mark: mark(self.next()?)?, not },
            "--mac-source" if !not => Match::SourceMac(mac(self.next()?)?),
            "--mode" if self.take("random") => self.chance()?,
            "--mode" if self.take("nth") => self.turn()?,
            "--rcheck" | "--set" if !not => self.recent(word == "--set")?,
            "--match-set" => {
                let set = Cow::Owned(self.next()?.to_owned());
                Match::InSet { set, by: directions(self.next()?)?, not }
            }
            _ => return None,
        };
        rule.matches.push(m);
        Some(())
    }

    fn chance(&mut self) -> Option<Match> {
        let part: f64 = self.take("--probability").then(|| self.next())??.parse().ok()?;
        if !(0.0..=1.0).contains(&part) {
            return None;
        }
        // The kernel counts in parts of 2^31, and eleven digits tell them apart.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 2^31")]
        let share = (part * f64::from(CERTAIN)).round() as u32;
        Some(Match::Chance { of: CERTAIN, share })
    }

    fn turn(&mut self) -> Option<Match> {
        let every = self.take("--every").then(|| self.number())??;
        let packet = if self.take("--packet") { self.number()? } else { 0 };
        Some(Match::Turn { every, packet })
    }

    fn recent(&mut self, set: bool) -> Option<Match> {
        let (mut list, mut seconds) = (None, None);
        while let Some(word) = self.words.get(self.at) {
            match &**word {
                "--seconds" => {
                    self.at += 1;
                    seconds = Some(self.number()?);
                }
                "--reap" | "--rsource" => self.at += 1,
                "--name" => {
                    self.at += 1;
                    list = Some(Cow::Owned(self.next()?.to_owned()));
                }
                "--mask" => {
                    self.at += 1;
                    let whole = range(self.next()?)?;
                    if u32::from(Family::of(whole.addr()) == Family::V6) != u32::from(self.family == Family::V6) {
                        return None;
                    }
                }
                _ => break,
            }
        }
        Some(match (set, seconds) {
            (true, None) => Match::Remember { list: list? },
            (false, Some(seconds)) => Match::Remembered { list: list?, seconds },
            _ => return None,
        })
    }

    fn target(&mut self, go: bool) -> Option<Target> {
        let name = self.next()?;
        Some(match name {
            "RETURN" => Target::Return,
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "REJECT" if self.take("--reject-with") => match self.next()? {
                "tcp-reset" => Target::RejectTcp,
                "icmp-port-unreachable" | "icmp6-port-unreachable" => Target::RejectPort,
                _ => return None,
            },
            "DNAT" if self.take("--to-destination") => Target::Dnat(self.next()?.parse::<SocketAddr>().ok()?),
            "MASQUERADE" if self.take("--random-fully") => Target::Masquerade,
            "REDIRECT" => Target::Redirect,
            "MARK" if self.take("--set-xmark") => Target::SetMark(mark(self.next()?)?),
            "CONNMARK" if self.take("--set-xmark") => Target::SetConnectionMark(mark(self.next()?)?),
            "CONNMARK" if self.take("--restore-mark") => {
                let mask = self.take("--nfmask").then(|| self.number())??;
                let same = self.take("--ctmask").then(|| self.number())?? == mask;
                return same.then_some(Target::RestoreMark { mask });
            }
            "CT" if self.take("--notrack") => Target::Untrack,
            chain if chain.starts_with(PREFIX) => {
                let chain = Cow::Owned(chain.to_owned());
                if go { Target::Goto(chain) } else { Target::Jump(chain) }
            }
            _ => return None,
        })
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn range(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn ports(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn mark(text: &str) -> Option<Mark> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value)?, number(mask)?),
        None => (number(text)?, u32::MAX),
    };
    Some(Mark { value, mask })
}

fn states(text: &str) -> Option<States> {
    let mut states = States::default();
    for name in text.split(',') {
        let state = match name {
            "NEW" => &mut states.new,
            "RELATED" => &mut states.related,
            "ESTABLISHED" => &mut states.established,
            "DNAT" => &mut states.dnat,
            _ => return None,
        };
        *state = true;
    }
    Some(states)
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn directions(text: &str) -> Option<Vec<Direction>> {
    text.split(',')
        .map(|word| match word {
            "src" => Some(Direction::Source),
            "dst" => Some(Direction::Destination),
            _ => None,
        })
        .collect()
}

/// A built-in chain by its name.
pub fn hook(name: &str) -> Option<Hook> {
    [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]
        .into_iter()
        .find(|hook| hook.chain() == name)
}
