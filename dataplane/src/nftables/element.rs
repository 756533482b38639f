//! One element of a set or map: what Services and endpoints are in the kernel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use model::Key;
use model::types::Protocol;

use super::balancer::{Class, TURN_SHIFT};
use super::expr::{DATA_VALUE, LIST_ELEM, Verdict};
use super::netlink::Writer;
use super::set::{Set, comment};
use super::timeout;
use super::word;
use crate::plan::{At, EdgeNeighbor, Family};

/// An element as it is written. Small: a full load holds all of them for a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// In `services`, `node-ports` or their `-inside` variants.
    Frontend {
        at: At,
        inside: bool,
        protocol: Protocol,
        port: u16,
        word: u32,
        /// The Service, which stands beside the element as its comment.
        owner: Arc<Key>,
    },
    /// In `guards`.
    Guard {
        address: IpAddr,
        protocol: Protocol,
        port: u16,
        guard: u32,
    },
    /// In `allowed`.
    Allowed {
        guard: u32,
        net: IpNet,
    },
    /// In `masqueraded` or `masqueraded-node-ports`.
    Masqueraded {
        at: At,
        protocol: Protocol,
        port: u16,
    },
    /// In `answered-here`.
    Here {
        address: IpAddr,
        protocol: Protocol,
        port: u16,
    },
    /// `pool` as it stands in a word.
    Draw {
        family: Family,
        pool: u32,
        slot: u32,
        id: u32,
    },
    /// In `turns`: of the chain with this action.
    Turn {
        family: Family,
        action: u32,
        slot: u32,
        pool: u32,
        id: u32,
    },
    /// In `limited`.
    Limited {
        address: IpAddr,
        protocol: Protocol,
        port: u16,
        per_second: u32,
    },
    /// In `timeouts`.
    Timeout {
        address: IpAddr,
        protocol: Protocol,
        port: u16,
        seconds: u32,
    },
    /// In `edges`.
    Edge {
        family: Family,
        edge: EdgeNeighbor,
    },
    /// `pool` as it stands in a word.
    Endpoint {
        pool: u32,
        id: u32,
        address: IpAddr,
        port: u16,
    },
    /// In a set of addresses; in `hairpin` the address stands twice.
    Address {
        set: Set,
        address: IpAddr,
    },
    /// In a set of ranges.
    Range {
        set: Set,
        net: IpNet,
    },
    Balancer {
        family: Family,
        action: u32,
        chain: Box<str>,
    },
}

// NFTA_SET_ELEM_*
const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const USER_DATA: u16 = 6;
const EXPR: u16 = 7;
const OBJECT: u16 = 9;
const KEY_END: u16 = 10;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

impl Element {
    pub fn family(&self) -> Family {
        match self {
            Self::Frontend { at, .. } | Self::Masqueraded { at, .. } => at.family(),
            Self::Draw { family, .. }
            | Self::Turn { family, .. }
            | Self::Edge { family, .. }
            | Self::Balancer { family, .. } => *family,
            Self::Endpoint { address, .. }
            | Self::Address { address, .. }
            | Self::Guard { address, .. }
            | Self::Limited { address, .. }
            | Self::Timeout { address, .. }
            | Self::Here { address, .. } => Family::of(*address),
            Self::Range { net, .. } | Self::Allowed { net, .. } => Family::of(net.addr()),
        }
    }

    pub fn set(&self) -> Set {
        match self {
            Self::Frontend { at: At::Address(_), inside: false, .. } => Set::Services,
            Self::Frontend { at: At::Address(_), inside: true, .. } => Set::ServicesInside,
            Self::Frontend { at: At::NodePort(_), inside: false, .. } => Set::NodePorts,
            Self::Frontend { at: At::NodePort(_), inside: true, .. } => Set::NodePortsInside,
            Self::Masqueraded { at: At::Address(_), .. } => Set::Masqueraded,
            Self::Masqueraded { at: At::NodePort(_), .. } => Set::MasqueradedNodePorts,
            Self::Draw { .. } => Set::Draws,
            Self::Endpoint { .. } => Set::Endpoints,
            Self::Address { set, .. } | Self::Range { set, .. } => *set,
            Self::Balancer { .. } => Set::Balancers,
            Self::Guard { .. } => Set::Guards,
            Self::Here { .. } => Set::AnsweredHere,
            Self::Allowed { .. } => Set::Allowed,
            Self::Turn { .. } => Set::Turns,
            Self::Limited { .. } => Set::Limited,
            Self::Timeout { .. } => Set::Timeouts,
            Self::Edge { .. } => Set::Edges,
        }
    }

    /// The key as it stands in registers.
    pub fn key(&self, out: &mut Vec<u8>) {
        match self {
            Self::Frontend { at, protocol, port, .. } | Self::Masqueraded { at, protocol, port } => {
                if let At::Address(address) = at {
                    push_address(out, *address);
                }
                out.extend_from_slice(&[protocol.number(), 0, 0, 0]);
                push_port(out, *port);
            }
            Self::Draw { pool, slot, .. } => {
                out.extend_from_slice(&pool.to_ne_bytes());
                out.extend_from_slice(&slot.to_ne_bytes());
            }
            Self::Turn { action, slot, .. } => out.extend_from_slice(&turn_key(*action, *slot).to_ne_bytes()),
            Self::Edge { edge, .. } => out.extend_from_slice(&edge.mac),
            Self::Guard { address, protocol, port, .. }
            | Self::Here { address, protocol, port }
            | Self::Limited { address, protocol, port, .. }
            | Self::Timeout { address, protocol, port, .. } => {
                push_address(out, *address);
                out.extend_from_slice(&[protocol.number(), 0, 0, 0]);
                push_port(out, *port);
            }
            Self::Allowed { guard, net } => {
                out.extend_from_slice(&guard.to_be_bytes());
                push_address(out, net.network());
            }
            Self::Endpoint { pool, id, .. } => {
                out.extend_from_slice(&pool.to_ne_bytes());
                out.extend_from_slice(&id.to_ne_bytes());
            }
            Self::Address { set, address } => {
                push_address(out, *address);
                if *set == Set::Hairpin {
                    push_address(out, *address);
                }
            }
            Self::Range { net, .. } => push_address(out, net.network()),
            Self::Balancer { action, .. } => out.extend_from_slice(&action.to_ne_bytes()),
        }
    }

    /// The value as it stands in registers; nothing for sets and verdicts.
    pub fn value(&self, out: &mut Vec<u8>) {
        match self {
            Self::Frontend { word, .. } => out.extend_from_slice(&word.to_ne_bytes()),
            Self::Draw { id, .. } => out.extend_from_slice(&id.to_ne_bytes()),
            Self::Guard { guard, .. } => out.extend_from_slice(&guard.to_be_bytes()),
            Self::Turn { pool, id, .. } => {
                out.extend_from_slice(&pool.to_ne_bytes());
                out.extend_from_slice(&id.to_ne_bytes());
            }
            Self::Edge { edge, .. } => out.extend_from_slice(&edge.mark().to_ne_bytes()),
            Self::Endpoint { address, port, .. } => {
                push_address(out, *address);
                push_port(out, *port);
            }
            Self::Masqueraded { .. }
            | Self::Here { .. }
            | Self::Limited { .. }
            | Self::Timeout { .. }
            | Self::Address { .. }
            | Self::Range { .. }
            | Self::Allowed { .. }
            | Self::Balancer { .. } => {}
        }
    }

    /// Writes the element into a message's list; without its data when it is to be removed.
    pub fn encode(&self, with_data: bool, scratch: &mut Vec<u8>, writer: &mut Writer) {
        scratch.clear();
        self.key(scratch);
        let key_end = scratch.len();
        self.value(scratch);
        writer.nest(LIST_ELEM, |w| {
            w.nest(KEY, |w| w.bytes(DATA_VALUE, &scratch[..key_end]));
            if let Self::Allowed { guard, net } = self {
                scratch.clear();
                scratch.extend_from_slice(&guard.to_be_bytes());
                push_address(scratch, net.broadcast());
                w.nest(KEY_END, |w| w.bytes(DATA_VALUE, scratch));
            }
            if with_data {
                match self {
                    Self::Balancer { chain, .. } => {
                        w.nest(DATA, |w| Verdict::Goto(chain.to_string().into()).encode(w));
                    }
                    Self::Allowed { .. } => {}
                    Self::Limited { per_second, .. } => limit(*per_second, w),
                    Self::Timeout { seconds, .. } => w.text(OBJECT, &timeout::name(*seconds)),
                    _ if key_end < scratch.len() => w.nest(DATA, |w| w.bytes(DATA_VALUE, &scratch[key_end..])),
                    _ => {}
                }
                if let Self::Frontend { owner, .. } = self {
                    scratch.clear();
                    comment(scratch, 0, &format!("{}/{}", owner.namespace, owner.name));
                    w.bytes(USER_DATA, scratch);
                }
            }
        });
        // A range is its first address and, marked as an end, the first address after it, if there is one.
        if let Self::Range { net, .. } = self
            && let Some(after) = after(net.broadcast())
        {
            scratch.clear();
            push_address(scratch, after);
            writer.nest(LIST_ELEM, |w| {
                w.nest(KEY, |w| w.bytes(DATA_VALUE, scratch));
                w.u32(FLAGS, INTERVAL_END);
            });
        }
    }
}

/// Whose turn it is stands behind this: `turns` has the chains' turns side by side.
fn turn_key(action: u32, slot: u32) -> u32 {
    action << TURN_SHIFT | slot
}

/// The expression of an element that only fits while there are more packets than so many per second; the unused ones of a
/// second may come at once.
fn limit(per_second: u32, w: &mut Writer) {
    w.nest(EXPR, |w| {
        w.text(1, "limit");
        w.nest(2, |w| {
            w.u64(1, per_second.into());
            w.u64(2, 1);
            w.u32(3, per_second);
            // NFT_LIMIT_PKTS, NFT_LIMIT_F_INV
            w.u32(4, 0);
            w.u32(5, 1);
        });
    });
}

fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => out.extend_from_slice(&a.octets()),
        IpAddr::V6(a) => out.extend_from_slice(&a.octets()),
    }
}

fn push_port(out: &mut Vec<u8>, port: u16) {
    out.extend_from_slice(&port.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
}

/// The next address, unless this is the last of its family.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => u32::from(a).checked_add(1).map(|n| Ipv4Addr::from(n).into()),
        IpAddr::V6(a) => u128::from(a).checked_add(1).map(|n| Ipv6Addr::from(n).into()),
    }
}

/// nft's name of the family.
pub(super) fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// What a word says, for people.
struct Word(u32);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = self.0 & word::ACTION_MASK;
        match action {
            word::REFUSE => return f.write_str("refuse"),
            word::DISCARD => return f.write_str("discard"),
            _ => {}
        }
        match Class::all().find(|c| c.action() == action) {
            Some(class) => write!(f, "pick-{}", class.size())?,
            None => write!(f, "chain #{action}")?,
        }
        write!(f, " pool {}", (self.0 & word::POOL_MASK) / word::POOL_STEP)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", family_name(self.family()), self.set().name())?;
        match self {
            Self::Frontend { at, protocol, port, .. } | Self::Masqueraded { at, protocol, port } => {
                if let At::Address(address) = at {
                    write!(f, "{address} . ")?;
                }
                write!(f, "{} . {port}", protocol_name(*protocol))?;
                match self {
                    Self::Frontend { word, owner, .. } => {
                        write!(f, " : {}  # {}/{}", Word(*word), owner.namespace, owner.name)
                    }
                    _ => Ok(()),
                }
            }
            Self::Guard { address, protocol, port, guard } => {
                write!(f, "{address} . {} . {port} : guard {guard}", protocol_name(*protocol))
            }
            Self::Limited { address, protocol, port, per_second } => {
                write!(f, "{address} . {} . {port} limit over {per_second}/second", protocol_name(*protocol))
            }
            Self::Timeout { address, protocol, port, seconds } => {
                write!(f, "{address} . {} . {port} : {seconds}s", protocol_name(*protocol))
            }
            Self::Turn { action, slot, pool, id, .. } => {
                write!(f, "#{action} . {slot} : {} . #{id:08x}", pool / word::POOL_STEP)
            }
            Self::Edge { edge, .. } => {
                let [a, b, c, d, e, g] = edge.mac;
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} : edge {}", edge.number)
            }
            Self::Here { address, protocol, port } => write!(f, "{address} . {} . {port}", protocol_name(*protocol)),
            Self::Allowed { guard, net } => write!(f, "guard {guard} . {net}"),
            Self::Draw { pool, slot, id, .. } => write!(f, "{} . {slot} : #{id:08x}", pool / word::POOL_STEP),
            Self::Endpoint { pool, id, address, port } => {
                write!(f, "{} . #{id:08x} : {address} . {port}", pool / word::POOL_STEP)
            }
            Self::Address { set: Set::Hairpin, address } => write!(f, "{address} . {address}"),
            Self::Address { address, .. } => write!(f, "{address}"),
            Self::Range { net, .. } => write!(f, "{net}"),
            Self::Balancer { action, chain, .. } => write!(f, "{action} : goto {chain}"),
        }
    }
}
