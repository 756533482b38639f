//! The expressions of nf_tables that the rules are made of, as values: encoded for the kernel by [`Expr::encode`],
//! printed by `Display`, and executed by [`super::walk`]. What is not here cannot be in a rule.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h`. Registers are the sixteen of 32 bits each; wider values
//! take as many as they need, in order. Registers do not outlive a rule.

use std::borrow::Cow;
use std::fmt;

use super::netlink::Writer;
use crate::plan::Family;

/// A 32-bit register, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reg(pub u8);

impl Reg {
    /// As the kernel says it when it is asked: every fourth is also one of the four registers of 128 bits, which it
    /// prefers (`NFT_REG_1` is 1), the others are `NFT_REG32_00` (8) and on.
    fn number(self) -> u32 {
        let number = u32::from(self.0);
        if number.is_multiple_of(4) { 1 + number / 4 } else { 8 + number }
    }
}

/// Where a value is read from in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    /// The kind of an ICMP message.
    IcmpType,
    /// The sender's link-layer address: six bytes.
    SourceMac,
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// `skb->priority`, which carries the word from rule to rule (see [`super::layout`]).
    Priority,
    Protocol,
    /// The mark, which policy routing looks at.
    Mark,
    /// The index of the interface that it came in by; that of `lo` is always [`LOOPBACK_INDEX`].
    InputInterface,
}

/// `LOOPBACK_IFINDEX`.
pub const LOOPBACK_INDEX: u32 = 1;

/// What conntrack knows of the packet's connection. Addresses and ports are those of the original direction:
/// what the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ct {
    State,
    Status,
    Destination,
    DestinationPort,
    /// The connection's mark.
    Mark,
    /// 0 in the direction of the connection's first packet, 1 in that of the answers: one byte.
    Direction,
}

/// An address whose kind the routing table knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fib {
    Source,
    Destination,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Drop,
    Return,
    Goto(Cow<'static, str>),
    /// Like `Goto`, and comes back where the chain ends or returns.
    Jump(Cow<'static, str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    TcpReset,
    PortUnreachable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// Adds the element, or renews its timeout; its data stays as it was.
    Update,
    Delete,
}

/// The port of a source that is masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePort {
    /// Any.
    Random,
    /// The client's own where it is free, else any.
    Kept,
}

/// One expression of a rule. The rule ends ("breaks") at the first that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    Load(Field, Reg),
    LoadMeta(Meta, Reg),
    SetMeta(Meta, Reg),
    LoadCt(Ct, Reg),
    /// Loads the kind of an address: `RTN_LOCAL` is 2.
    LoadFib(Fib, Reg),
    /// Breaks unless the register holds this: as the host writes a number.
    Equals(Reg, u32),
    /// Breaks if the register holds this.
    Differs(Reg, u32),
    /// Breaks unless the register's first byte is this.
    EqualsByte(Reg, u8),
    /// Breaks unless the register's first two bytes are this port.
    EqualsPort(Reg, u16),
    And(Reg, u32),
    Set(Reg, u32),
    /// Breaks unless the key that starts in the register is in the set.
    In(&'static str, Reg),
    /// Loads the data of the key; breaks when there is none.
    Lookup {
        map: &'static str,
        key: Reg,
        to: Reg,
    },
    /// Goes where the key's verdict says; breaks when there is none.
    LookupVerdict {
        map: &'static str,
        key: Reg,
    },
    /// A random number below `modulus`.
    Random {
        modulus: u32,
        to: Reg,
    },
    /// The next number below `modulus`, and `offset` more: 0, 1, 2 and so on for one packet after the other, whatever
    /// processor they pass on.
    Turn {
        modulus: u32,
        offset: u32,
        to: Reg,
    },
    /// A number below `modulus` that follows from the bytes in registers alone ([`jenkins`](super::jenkins)).
    Hash {
        from: Reg,
        bytes: u32,
        modulus: u32,
        to: Reg,
    },
    /// Does what the object of the key says; breaks when there is none. The objects here are timeouts of connections.
    Object {
        map: &'static str,
        key: Reg,
    },
    SetCtMark(Reg),
    /// This machine as new destination, at the address by which the packet came in; ends the evaluation.
    Redirect,
    /// Writes an element from the packet path. Breaks when the set is full.
    Remember {
        how: Remember,
        map: &'static str,
        key: Reg,
        data: Reg,
        timeout_seconds: u32,
    },
    /// New destination; ends the evaluation.
    Dnat {
        address: Reg,
        port: Reg,
    },
    /// An address of the outgoing interface as new source; ends the evaluation.
    Masquerade(SourcePort),
    /// The connection is not remembered, and so not translated: conntrack and the NAT chains pass the packet by.
    Untrack,
    Reject(Reject),
    Verdict(Verdict),
}

// NFTA_EXPR_*, NFTA_LIST_ELEM, NFTA_DATA_*, NFTA_VERDICT_*
pub(super) const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
pub(super) const VERDICT_CHAIN: u16 = 2;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`: two connections to one endpoint are unlikely to want the same port.
const FULLY_RANDOM: u32 = 1 << 4;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(crate) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

impl Expr {
    /// The kernel's name of the expression, which is also the name of the module that has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Load(..) => "payload",
            Self::LoadMeta(..) | Self::SetMeta(..) => "meta",
            Self::LoadCt(..) | Self::SetCtMark(_) => "ct",
            Self::LoadFib(..) => "fib",
            Self::Equals(..) | Self::Differs(..) | Self::EqualsByte(..) | Self::EqualsPort(..) => "cmp",
            Self::And(..) => "bitwise",
            Self::Set(..) | Self::Verdict(_) => "immediate",
            Self::In(..) | Self::Lookup { .. } | Self::LookupVerdict { .. } => "lookup",
            Self::Random { .. } | Self::Turn { .. } => "numgen",
            Self::Hash { .. } => "hash",
            Self::Object { .. } => "objref",
            Self::Redirect => "redir",
            Self::Remember { .. } => "dynset",
            Self::Dnat { .. } => "nat",
            Self::Masquerade(_) => "masq",
            Self::Untrack => "notrack",
            Self::Reject(_) => "reject",
        }
    }

    /// Writes the expression as an element of a rule's list.
    pub fn encode(&self, family: Family, writer: &mut Writer) {
        writer.nest(LIST_ELEM, |w| {
            w.text(EXPR_NAME, self.name());
            // What has nothing to say about itself the kernel lists without data.
            if !matches!(self, Self::Untrack) {
                w.nest(EXPR_DATA, |w| self.encode_data(family, w));
            }
        });
    }

    fn encode_data(&self, family: Family, w: &mut Writer) {
        match self {
            Self::Load(field, to) => {
                let (base, offset, length) = field.position(family);
                w.u32(1, to.number());
                w.u32(2, base);
                w.u32(3, offset);
                w.u32(4, length);
            }
            Self::LoadMeta(key, to) => {
                w.u32(2, key.number());
                w.u32(1, to.number());
            }
            Self::SetMeta(key, from) => {
                w.u32(2, key.number());
                w.u32(3, from.number());
            }
            Self::LoadCt(key, to) => {
                w.u32(2, key.number(family));
                w.u32(1, to.number());
                if matches!(key, Ct::Destination | Ct::DestinationPort) {
                    // IP_CT_DIR_ORIGINAL
                    w.bytes(3, &[0]);
                }
            }
            Self::LoadFib(address, to) => {
                // NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR; NFT_FIB_RESULT_ADDRTYPE
                let flags = if *address == Fib::Source { 1 } else { 2 };
                w.u32(1, to.number());
                w.u32(2, 3);
                w.u32(3, flags);
            }
            Self::Equals(reg, value) => compare(w, *reg, 0, &value.to_ne_bytes()),
            Self::Differs(reg, value) => compare(w, *reg, 1, &value.to_ne_bytes()),
            Self::EqualsByte(reg, value) => compare(w, *reg, 0, &[*value]),
            Self::EqualsPort(reg, port) => compare(w, *reg, 0, &port.to_be_bytes()),
            Self::And(reg, mask) => {
                w.u32(1, reg.number());
                w.u32(2, reg.number());
                w.u32(3, 4);
                w.nest(4, |w| w.bytes(DATA_VALUE, &mask.to_ne_bytes()));
                w.nest(5, |w| w.bytes(DATA_VALUE, &[0; 4]));
            }
            Self::SetCtMark(from) => {
                w.u32(2, Ct::MARK);
                w.u32(4, from.number());
            }
            Self::Set(to, value) => {
                w.u32(1, to.number());
                w.nest(2, |w| w.bytes(DATA_VALUE, &value.to_ne_bytes()));
            }
            Self::In(set, key) => {
                w.text(1, set);
                w.u32(2, key.number());
            }
            Self::Lookup { map, key, to } => {
                w.text(1, map);
                w.u32(2, key.number());
                w.u32(3, to.number());
            }
            Self::LookupVerdict { map, key } => {
                w.text(1, map);
                w.u32(2, key.number());
                w.u32(3, 0);
            }
            Self::Random { modulus, to } => {
                // NFT_NG_RANDOM
                w.u32(1, to.number());
                w.u32(2, *modulus);
                w.u32(3, 1);
                w.u32(4, 0);
            }
            Self::Turn { modulus, offset, to } => {
                // NFT_NG_INCREMENTAL
                w.u32(1, to.number());
                w.u32(2, *modulus);
                w.u32(3, 0);
                w.u32(4, *offset);
            }
            Self::Hash { from, bytes, modulus, to } => {
                // NFT_HASH_JENKINS
                w.u32(1, from.number());
                w.u32(2, to.number());
                w.u32(3, *bytes);
                w.u32(4, *modulus);
                w.u32(5, super::jenkins::SEED);
                w.u32(7, 0);
            }
            Self::Object { map, key } => {
                w.u32(3, key.number());
                w.text(4, map);
            }
            Self::Remember { how, map, key, data, timeout_seconds } => {
                w.text(1, map);
                w.u32(3, if *how == Remember::Update { 1 } else { 2 });
                w.u32(4, key.number());
                w.u32(5, data.number());
                w.u64(6, u64::from(*timeout_seconds) * 1000);
            }
            Self::Dnat { address, port } => {
                // NFT_NAT_DNAT
                w.u32(1, 1);
                w.u32(2, u32::from(family_number(family)));
                w.u32(3, address.number());
                w.u32(5, port.number());
            }
            Self::Masquerade(SourcePort::Random) => w.u32(1, FULLY_RANDOM),
            Self::Masquerade(SourcePort::Kept) | Self::Untrack | Self::Redirect => {}
            Self::Reject(reject) => {
                let (kind, code) = match (reject, family) {
                    (Reject::TcpReset, _) => (1, None),
                    (Reject::PortUnreachable, Family::V4) => (0, Some(3)),
                    (Reject::PortUnreachable, Family::V6) => (0, Some(4)),
                };
                w.u32(1, kind);
                code.into_iter().for_each(|code| w.bytes(2, &[code]));
            }
            Self::Verdict(verdict) => {
                w.u32(1, 0);
                w.nest(2, |w| verdict.encode(w));
            }
        }
    }
}

fn compare(w: &mut Writer, reg: Reg, operator: u32, value: &[u8]) {
    w.u32(1, reg.number());
    w.u32(2, operator);
    w.nest(3, |w| w.bytes(DATA_VALUE, value));
}

impl Verdict {
    /// Writes the verdict as the data of an immediate or of an element.
    pub fn encode(&self, writer: &mut Writer) {
        writer.nest(DATA_VERDICT, |w| match self {
            Self::Drop => w.u32(VERDICT_CODE, 0),
            Self::Return => w.u32(VERDICT_CODE, u32::from_ne_bytes((-5i32).to_ne_bytes())),
            Self::Goto(chain) => {
                w.u32(VERDICT_CODE, u32::from_ne_bytes((-4i32).to_ne_bytes()));
                w.text(VERDICT_CHAIN, chain);
            }
            Self::Jump(chain) => {
                w.u32(VERDICT_CODE, u32::from_ne_bytes((-3i32).to_ne_bytes()));
                w.text(VERDICT_CHAIN, chain);
            }
        });
    }
}

impl Field {
    /// (base, offset, length): the link-layer header is base 0, the network header 1, the transport header 2. The ports
    /// stand at the same places in TCP, UDP and SCTP.
    fn position(self, family: Family) -> (u32, u32, u32) {
        match (self, family) {
            (Self::Source, Family::V4) => (1, 12, 4),
            (Self::Destination, Family::V4) => (1, 16, 4),
            (Self::Source, Family::V6) => (1, 8, 16),
            (Self::Destination, Family::V6) => (1, 24, 16),
            (Self::SourcePort, _) => (2, 0, 2),
            (Self::DestinationPort, _) => (2, 2, 2),
            (Self::IcmpType, _) => (2, 0, 1),
            (Self::SourceMac, _) => (0, 6, 6),
        }
    }
}

impl Meta {
    fn number(self) -> u32 {
        match self {
            Self::Priority => 2,
            Self::Mark => 3,
            Self::InputInterface => 4,
            Self::Protocol => 16,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Mark => "mark",
            Self::InputInterface => "iif",
            Self::Protocol => "l4proto",
        }
    }
}

impl Ct {
    const MARK: u32 = 3;

    fn number(self, family: Family) -> u32 {
        match (self, family) {
            (Self::State, _) => 0,
            (Self::Direction, _) => 1,
            (Self::Mark, _) => Self::MARK,
            (Self::Status, _) => 2,
            (Self::DestinationPort, _) => 12,
            (Self::Destination, Family::V4) => 20,
            (Self::Destination, Family::V6) => 22,
        }
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(field, to) => write!(
                f,
                "{to} = {}",
                match field {
                    Field::Source => "saddr",
                    Field::Destination => "daddr",
                    Field::SourcePort => "sport",
                    Field::DestinationPort => "dport",
                    Field::IcmpType => "icmp type",
                    Field::SourceMac => "ether saddr",
                }
            ),
            Self::LoadMeta(key, to) => write!(f, "{to} = {}", key.name()),
            Self::SetMeta(key, from) => write!(f, "{} = {from}", key.name()),
            Self::LoadCt(key, to) => write!(
                f,
                "{to} = ct {}",
                match key {
                    Ct::State => "state",
                    Ct::Status => "status",
                    Ct::Direction => "direction",
                    Ct::Mark => "mark",
                    Ct::Destination => "original daddr",
                    Ct::DestinationPort => "original proto-dst",
                }
            ),
            Self::LoadFib(Fib::Source, to) => write!(f, "{to} = fib saddr type"),
            Self::LoadFib(Fib::Destination, to) => write!(f, "{to} = fib daddr type"),
            Self::Equals(reg, value) => write!(f, "{reg} == {value:#x}"),
            Self::Differs(reg, value) => write!(f, "{reg} != {value:#x}"),
            Self::EqualsByte(reg, value) => write!(f, "{reg} == {value}"),
            Self::EqualsPort(reg, port) => write!(f, "{reg} == {port}"),
            Self::And(reg, mask) => write!(f, "{reg} &= {mask:#x}"),
            Self::Set(reg, value) => write!(f, "{reg} = {value}"),
            Self::SetCtMark(from) => write!(f, "ct mark = {from}"),
            Self::In(set, key) => write!(f, "{key} in @{set}"),
            Self::Lookup { map, key, to } => write!(f, "{to} = @{map}[{key}]"),
            Self::LookupVerdict { map, key } => write!(f, "@{map}[{key}]"),
            Self::Random { modulus, to } => write!(f, "{to} = random % {modulus}"),
            Self::Turn { modulus, offset, to } => write!(f, "{to} = turn % {modulus} + {offset:#x}"),
            Self::Hash { from, bytes, modulus, to } => write!(f, "{to} = hash of {bytes} bytes of {from} % {modulus}"),
            Self::Object { map, key } => write!(f, "object of @{map}[{key}]"),
            Self::Redirect => f.write_str("redirect"),
            Self::Remember { how: Remember::Update, map, key, data, timeout_seconds } => {
                write!(f, "update @{map}[{key}] = {data} for {timeout_seconds}s")
            }
            Self::Remember { how: Remember::Delete, map, key, .. } => write!(f, "delete @{map}[{key}]"),
            Self::Dnat { address, port } => write!(f, "dnat to {address} port {port}"),
            Self::Masquerade(SourcePort::Random) => f.write_str("masquerade fully-random"),
            Self::Masquerade(SourcePort::Kept) => f.write_str("masquerade"),
            Self::Untrack => f.write_str("notrack"),
            Self::Reject(Reject::TcpReset) => f.write_str("reject with tcp reset"),
            Self::Reject(Reject::PortUnreachable) => f.write_str("reject with port unreachable"),
            Self::Verdict(Verdict::Drop) => f.write_str("drop"),
            Self::Verdict(Verdict::Return) => f.write_str("return"),
            Self::Verdict(Verdict::Goto(chain)) => write!(f, "goto {chain}"),
            Self::Verdict(Verdict::Jump(chain)) => write!(f, "jump {chain}"),
        }
    }
}
