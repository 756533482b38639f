//! The sets and maps of a table. Their number is constant; everything that changes is an element of one of them.

use super::expr::family_number;
use super::netlink::Writer;
use crate::plan::Family;

/// A set or map, in the order in which elements are written: what is led to comes before what leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Set {
    Endpoints,
    Draws,
    Turns,
    Affinity,
    Balancers,
    Hairpin,
    Loopback,
    NodeAddresses,
    LocalClients,
    MasqueradedClients,
    ServiceCidrs,
    OtherProxies,
    ClusterIps,
    Masqueraded,
    MasqueradedNodePorts,
    Allowed,
    Guards,
    Services,
    NodePorts,
    ServicesInside,
    NodePortsInside,
    AnsweredHere,
    Echo,
    Limited,
    Timeouts,
    Edges,
}

/// What a key or a value consists of; the numbers are `nft`'s, so that it prints elements as what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Address,
    Protocol,
    Port,
    /// A link-layer address.
    Mac,
    /// A number of 32 bits in the host's order (nft's `mark`).
    Number,
    /// The same in the network's order, which is that of ranges.
    Ordered,
}

/// What a map's keys lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    None,
    Value(&'static [Type]),
    Verdict,
    /// A timeout of connections.
    Timeout,
}

/// A set's definition.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub set: Set,
    pub name: &'static str,
    pub key: &'static [Type],
    pub data: Data,
    pub kind: Kind,
    pub comment: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Written by us.
    Plain,
    /// Ranges, written by us. Of a key with several parts each has its range.
    Interval,
    /// Written by the packet path, with timeouts; at most so many elements.
    Dynamic { size: u32 },
}

/// How many clients can be remembered at once, per family. Beyond that new clients are balanced without memory,
/// until old ones expire: about 100 bytes each must not become a way to take the kernel's memory.
const AFFINITY_SIZE: u32 = 262_144;

/// How many sets a table has.
pub const COUNT: usize = 26;

use Type::{Address, Mac, Number, Ordered, Port, Protocol};

const SPECS: [Spec; COUNT] = [
    spec(
        Set::Endpoints,
        "endpoints",
        &[Number, Number],
        Data::Value(&[Address, Port]),
        "pool . endpoint id : where it is",
    ),
    spec(Set::Draws, "draws", &[Number, Number], Data::Value(&[Number]), "pool . slot : endpoint id"),
    spec(Set::Turns, "turns", &[Number], Data::Value(&[Number, Number]), "whose turn it is : pool . endpoint id"),
    Spec {
        kind: Kind::Dynamic { size: AFFINITY_SIZE },
        ..spec(Set::Affinity, "affinity", &[Address, Number], Data::Value(&[Number]), "client . pool : endpoint id")
    },
    spec(Set::Balancers, "balancers", &[Number], Data::Verdict, "action : chain"),
    spec(Set::Hairpin, "hairpin", &[Address, Address], Data::None, "endpoints on this node, each with itself"),
    Spec {
        kind: Kind::Interval,
        ..spec(Set::Loopback, "loopback", &[Address], Data::None, "where node ports answer to the node itself")
    },
    Spec {
        kind: Kind::Interval,
        ..spec(Set::NodeAddresses, "node-addresses", &[Address], Data::None, "where node ports answer")
    },
    Spec {
        kind: Kind::Interval,
        ..spec(Set::LocalClients, "local-clients", &[Address], Data::None, "pods of this node")
    },
    Spec {
        kind: Kind::Interval,
        ..spec(
            Set::MasqueradedClients,
            "masqueraded-clients",
            &[Address],
            Data::None,
            "hidden from endpoints of a ClusterIP on other nodes",
        )
    },
    Spec {
        kind: Kind::Interval,
        ..spec(Set::ServiceCidrs, "service-cidrs", &[Address], Data::None, "where ClusterIPs come from")
    },
    spec(Set::OtherProxies, "other-proxies", &[Address], Data::None, "ClusterIPs with a service-proxy-name"),
    spec(Set::ClusterIps, "cluster-ips", &[Address], Data::None, "ClusterIPs in use"),
    spec(Set::Masqueraded, "masqueraded", SERVICE, Data::None, "frontends that hide the client"),
    spec(
        Set::MasqueradedNodePorts,
        "masqueraded-node-ports",
        &[Protocol, Port],
        Data::None,
        "node ports that hide the client",
    ),
    Spec {
        kind: Kind::Interval,
        ..spec(Set::Allowed, "allowed", &[Ordered, Address], Data::None, "guard . client that may pass")
    },
    spec(Set::Guards, "guards", SERVICE, Data::Value(&[Ordered]), "frontend with source ranges : guard"),
    spec(Set::Services, "services", SERVICE, Data::Value(&[Number]), "address and port : word"),
    spec(Set::NodePorts, "node-ports", &[Protocol, Port], Data::Value(&[Number]), "node port : word"),
    spec(Set::ServicesInside, "services-inside", SERVICE, Data::Value(&[Number]), "the same for clients on this node"),
    spec(
        Set::NodePortsInside,
        "node-ports-inside",
        &[Protocol, Port],
        Data::Value(&[Number]),
        "the same for clients on this node",
    ),
    spec(Set::AnsweredHere, "answered-here", SERVICE, Data::None, "frontends at which this node itself answers"),
    spec(Set::Echo, "echo", &[Address], Data::None, "addresses that answer to pings"),
    spec(Set::Limited, "limited", SERVICE, Data::None, "frontends that admit so many connections per second"),
    spec(Set::Timeouts, "timeouts", SERVICE, Data::Timeout, "frontend : when a silent connection is forgotten"),
    spec(Set::Edges, "edges", &[Mac], Data::Value(&[Number]), "edge node : mark of the connections that come from it"),
];

const SERVICE: &[Type] = &[Address, Protocol, Port];

const fn spec(set: Set, name: &'static str, key: &'static [Type], data: Data, comment: &'static str) -> Spec {
    Spec { set, name, key, data, kind: Kind::Plain, comment }
}

// NFT_SET_*
const INTERVAL: u32 = 0x4;
const CONCAT: u32 = 0x80;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const EVAL: u32 = 0x20;
/// `NFT_DATA_VERDICT`.
const VERDICT: u32 = 0xffff_ff00;
const OBJECT: u32 = 0x40;
/// `NFT_OBJECT_CT_TIMEOUT`.
pub(super) const CT_TIMEOUT: u32 = 7;

impl Set {
    pub fn all() -> impl Iterator<Item = Self> {
        SPECS.iter().map(|s| s.set)
    }

    pub fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.spec().name
    }
}

impl Type {
    fn number(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Address, Family::V4) => 7,
            (Self::Address, Family::V6) => 8,
            (Self::Mac, _) => 9,
            (Self::Protocol, _) => 12,
            (Self::Port, _) => 13,
            (Self::Number | Self::Ordered, _) => 19,
        }
    }

    /// In registers, where everything starts at a multiple of four.
    pub fn bytes(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Address, Family::V6) => 16,
            (Self::Mac, _) => 8,
            _ => 4,
        }
    }
}

/// nft packs the types of a concatenation into one number, six bits each.
fn type_number(types: &[Type], family: Family) -> u32 {
    types.iter().fold(0, |all, t| all << 6 | t.number(family))
}

fn total_bytes(types: &[Type], family: Family) -> u32 {
    types.iter().map(|t| t.bytes(family)).sum()
}

impl Spec {
    pub fn flags(&self) -> u32 {
        let map = match self.data {
            Data::None => 0,
            Data::Value(_) | Data::Verdict => MAP,
            Data::Timeout => OBJECT,
        };
        map | match self.kind {
            Kind::Plain => 0,
            Kind::Interval if self.key.len() > 1 => INTERVAL | CONCAT,
            Kind::Interval => INTERVAL,
            Kind::Dynamic { .. } => TIMEOUT | EVAL,
        }
    }

    /// Writes the attributes of `NFT_MSG_NEWSET` after the table's name.
    pub fn encode(&self, family: Family, w: &mut Writer) {
        // The kernel wants a number for the set that is unique in the batch.
        let id = u32::from(family_number(family)) << 8 | u32::from(self.set as u8);
        w.text(2, self.name);
        // The kernel does not say that there are none; see `verify`.
        if self.flags() != 0 {
            w.u32(3, self.flags());
        }
        w.u32(4, type_number(self.key, family));
        w.u32(5, self.key_bytes(family));
        match self.data {
            Data::None => {}
            Data::Value(types) => {
                w.u32(6, type_number(types, family));
                w.u32(7, total_bytes(types, family));
            }
            Data::Verdict => w.u32(6, VERDICT),
            Data::Timeout => w.u32(15, CT_TIMEOUT),
        }
        match self.kind {
            Kind::Dynamic { size } => w.nest(9, |w| w.u32(1, size)),
            // NFTA_SET_DESC_CONCAT: the length of each part.
            Kind::Interval if self.key.len() > 1 => w.nest(9, |w| {
                w.nest(2, |w| self.key.iter().for_each(|part| w.nest(1, |w| w.u32(1, part.bytes(family)))));
            }),
            Kind::Plain | Kind::Interval => {}
        }
        w.u32(10, id);
        w.bytes(13, &self.user_data());
    }

    fn key_bytes(&self, family: Family) -> u32 {
        match self.key {
            // A key of one short field is as long as the field.
            [Mac] => 6,
            key => total_bytes(key, family),
        }
    }

    /// What nft keeps for itself: byte orders (1 is the host's, 2 the network's) of keys and data, and the comment.
    fn user_data(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut order = |kind: u8, types: &[Type]| {
            let order: u32 = match types {
                [Number] => 1,
                [Ordered] => 2,
                _ => return,
            };
            data.extend_from_slice(&[kind, 4]);
            data.extend_from_slice(&order.to_ne_bytes());
        };
        order(0, self.key);
        if let Data::Value(types) = self.data {
            order(1, types);
        }
        comment(&mut data, 7, self.comment);
        data
    }
}

/// Appends a comment as nft's user data has it: kind, length, text with NUL.
pub(super) fn comment(data: &mut Vec<u8>, kind: u8, text: &str) {
    if let (false, Ok(length)) = (text.is_empty(), u8::try_from(text.len() + 1)) {
        data.extend_from_slice(&[kind, length]);
        data.extend_from_slice(text.as_bytes());
        data.push(0);
    }
}
