//! What a rule can say: no more than Portolan's rules do.
//!
//! A rule belongs to a chain of a table of one family; addresses in it are of that family. Matches are a conjunction, and
//! stand in the order in which they are written, which is the order in which the kernel tries them.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use model::types::Protocol;

/// A table. The order is that in which a packet meets them at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Raw,
    Mangle,
    Nat,
    Filter,
}

/// A chain that the kernel calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// A chain of one's own, with its rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// At most 28 characters, beginning with `PORTOLAN-`.
    pub name: Cow<'static, str>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub target: Target,
    /// At most 255 characters; none where it is empty.
    pub comment: Cow<'static, str>,
}

/// Bits of a packet's or a connection's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    pub value: u32,
    /// Which bits count. `value` has no others.
    pub mask: u32,
}

/// States of connection tracking, any of which fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    pub new: bool,
    pub established: bool,
    pub related: bool,
    /// The destination was translated.
    pub dnat: bool,
}

/// Which part of a packet a component of a set's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Source,
    Destination,
}

/// What a packet must be for its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// `-s`, and `! -s` where it is not to fit.
    Source { range: IpNet, not: bool },
    /// `-d`
    Destination { range: IpNet, not: bool },
    /// `-p`
    Protocol(Protocol),
    /// `-p icmp --icmp-type echo-request`, and its like of IPv6.
    EchoRequest,
    /// `--dport`, behind [`Match::Protocol`].
    DestinationPort(RangeInclusive<u16>),
    /// `--sport`, behind [`Match::Protocol`].
    SourcePort(u16),
    /// `-i lo`, or any other than it.
    Loopback { not: bool },
    /// `-m addrtype --dst-type LOCAL`: an address of this machine.
    DestinationLocal,
    /// `-m addrtype --src-type LOCAL`
    SourceLocal { not: bool },
    /// `-m conntrack --ctstate`
    State { states: States, not: bool },
    /// `-m conntrack --ctdir REPLY`
    Reply,
    /// `-m conntrack --ctorigdst`: what the client asked.
    AskedFor(IpNet),
    /// `-m mark`
    Mark { mark: Mark, not: bool },
    /// `-m connmark`
    ConnectionMark { mark: Mark, not: bool },
    /// `-m mac --mac-source`
    SourceMac([u8; 6]),
    /// `-m statistic --mode random`: so many of so many.
    Chance { of: u32, share: u32 },
    /// `-m statistic --mode nth`: one of `every`, the one with number `packet`, which is less.
    Turn { every: u32, packet: u32 },
    /// `-m recent --rcheck --seconds S --reap`: the client is in the list, since at most so many seconds.
    Remembered { list: Cow<'static, str>, seconds: u32 },
    /// `-m recent --set`: puts the client into the list; always fits.
    Remember { list: Cow<'static, str> },
    /// `-m set --match-set`, by a key of at most three components.
    InSet { set: Cow<'static, str>, by: Vec<Direction>, not: bool },
}

/// What a rule does with a packet that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To another chain of the table, and back when that comes to its end.
    Jump(Cow<'static, str>),
    /// To another chain, and from there to where this one would have gone back.
    Goto(Cow<'static, str>),
    Return,
    Accept,
    Drop,
    /// A TCP reset; behind [`Match::Protocol`] with TCP, in `filter`.
    RejectTcp,
    /// An ICMP port unreachable, in `filter`.
    RejectPort,
    /// `DNAT --to-destination`
    Dnat(SocketAddr),
    /// `MASQUERADE --random-fully`
    Masquerade,
    /// `REDIRECT`: to this machine, at the same port.
    Redirect,
    /// `MARK --set-xmark value/mask`: the bits of the mask become the value's.
    SetMark(Mark),
    /// `CONNMARK --set-xmark`
    SetConnectionMark(Mark),
    /// `CONNMARK --restore-mark` with these bits of both marks.
    RestoreMark {
        mask: u32,
    },
    /// `CT --notrack`, in `raw`.
    Untrack,
    /// None: what the matches do is all.
    Nothing,
}

impl Table {
    pub const ALL: [Self; 4] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter];

    /// As in `iptables -t`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }
}

impl Hook {
    /// The name of the built-in chain.
    pub fn chain(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }
}

impl Match {
    /// From this one address.
    pub fn from(address: IpAddr) -> Self {
        Self::Source { range: address.into(), not: false }
    }

    /// To this one address.
    pub fn to(address: IpAddr) -> Self {
        Self::Destination { range: address.into(), not: false }
    }
}

impl Rule {
    /// A rule without a comment.
    pub fn new(matches: impl Into<Vec<Match>>, target: Target) -> Self {
        Self { matches: matches.into(), target, comment: Cow::Borrowed("") }
    }
}
